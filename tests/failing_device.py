"""`guard-service` on a device that fails: `python -m tests.failing_device KIND TOKENS serve ...`.

Every forward of more than so many new tokens raises what torch raises there.
"""

import sys
from collections.abc import Sequence

import torch

from guard_service.cli import main
from guard_service.engine import transformers_engine
from guard_service.engine.packing import PackedSequence, forward

FAILURES = {
    "full": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "lost": torch.AcceleratorError("CUDA error: device-side assert triggered"),
}


def fail_above(max_tokens: int, error: Exception) -> None:
    """Let no forward of more tokens succeed."""

    def limited(model: object, sequences: Sequence[PackedSequence]) -> object:
        if sum(len(sequence.tokens) for sequence in sequences) > max_tokens:
            raise error
        return forward(model, sequences)

    transformers_engine.forward = limited


if __name__ == "__main__":
    kind, tokens = sys.argv[1:3]
    del sys.argv[1:3]
    fail_above(int(tokens), FAILURES[kind])
    main()
