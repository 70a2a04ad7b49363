"""Model files on disk: which may be there, what they must hold, and how they get there."""

from guard_service.weights.adapter_format import adapter_format, write_adapter_format
from guard_service.weights.download import download
from guard_service.weights.manifest import Manifest, manifest_of, read_manifest
from guard_service.weights.names import ALLOWED_FILES

__all__ = [
    "ALLOWED_FILES",
    "Manifest",
    "adapter_format",
    "download",
    "manifest_of",
    "read_manifest",
    "write_adapter_format",
]
