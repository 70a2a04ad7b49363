"""What a failure inside torch means: too much at once, the end of the device, or neither."""

import torch

from guard_service.engine.protocol import EngineLost
from guard_service.moderation import OutOfMemory

_FULL = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED")
"""How devices and the CPU say that memory has run out."""

_LOST = (
    "device-side assert triggered",
    "illegal memory access",
    "illegal instruction",
    "misaligned address",
    "invalid program counter",
    "not supported on global/shared address space",
    "hardware stack error",
    "unspecified launch failure",
    "launch timed out and was terminated",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "_STATUS_EXECUTION_FAILED",
    "fallen off the bus",
    "GPU is lost",
    "Xid",
)
"""After these every later call on the device fails, or returns memory nobody wrote."""


def device_fault(error: Exception) -> OutOfMemory | EngineLost | None:
    """The failure in the service's terms; None if the device is not to blame."""
    text = str(error)
    # Lost comes first: a broken device may well be "out of memory" besides.
    for sign in _LOST:
        if sign in text:
            return EngineLost(sign)
    if isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in _FULL):
        return OutOfMemory(
            "the text does not fit the memory of the model's device; send a shorter one, or give "
            "the server a lower max_context_tokens"
        )
    return None
