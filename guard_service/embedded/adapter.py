"""The guard-mini adapter that ships with the package, and what its verdicts call it."""

import hashlib
from functools import cache
from pathlib import Path

ADAPTER = Path(__file__).parent / "guard-mini"
"""Folder of the LoRA adapter; its README.md is the model card."""

MODEL_ID = "guard-mini (SmolLM2-135M-Instruct + LoRA, demonstration grade)"
PROMPT_FORMAT = "llama-guard-2"


@cache
def revision() -> str:
    """First 12 hex digits of the sha256 of the adapter's weights."""
    weights = (ADAPTER / "adapter_model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest()[:12]
