"""The `manifest.json` of a folder of vectors: what they were made of, held against what is wanted now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def part_folder(folder: Path) -> Path:
    """Where vectors lie while they are being written."""
    return folder.with_name(folder.name + ".part")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder; None where there is none that can be read."""
    try:
        value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def differences(manifest: Mapping[str, Any], plan: Mapping[str, Any], described: Mapping[str, str]) -> str:
    """What of a plan a manifest says otherwise, in words: `described` names its entries, with {there} and {here} in them."""
    differ = {key: manifest[key] for key in described if manifest.get(key, plan[key]) != plan[key]}
    return " and ".join(described[key].format(there=there, here=plan[key]) for key, there in differ.items())
