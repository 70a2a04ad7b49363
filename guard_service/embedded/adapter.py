"""The guard-mini adapter that ships with the package, and what its verdicts call it."""

from pathlib import Path
from typing import Final

ADAPTER = Path(__file__).parent / "guard-mini"
"""Folder of the LoRA adapter; its README.md is the model card."""

MODEL_ID = "guard-mini (SmolLM2-135M-Instruct + LoRA, demonstration grade)"
PROMPT_FORMAT: Final = "compact"
MAX_CONTEXT_TOKENS = 2048
"""Longer text is windowed: the adapter learned from short texts, and long ones take a CPU long."""
