"""Llama 3 Instruct and its kind in this process: the only part of the package with torch."""

import os

# Read once, when torch loads OpenMP: spinning workers would fight the event loop for the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from chat_gateway.generators.transformers.generator import TransformersGenerator
from chat_gateway.generators.transformers.loading import (
    GeneratorSpec,
    load_generator,
)

__all__ = ["GeneratorSpec", "TransformersGenerator", "load_generator"]
