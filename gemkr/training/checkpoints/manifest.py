"""A checkpoint's `manifest.json`: each file's size and SHA-256, and what the checkpoint belongs to.

The manifest is trusted only where the bytes agree with it. Knows nothing of tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.origin import Origin

FORMAT = 1
MANIFEST, WEIGHTS, OPTIMIZER, STATE, CONFIG = (
    "manifest.json",
    "trained.safetensors",
    "optimizer.safetensors",
    "state.json",
    "config.json",
)
PACKAGES = ("gemkr", "torch", "transformers", "peft", "accelerate", "safetensors", "open_clip_torch", "numpy")


def manifest_of(origin: Origin, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest of a checkpoint whose files have these `facts`."""
    return {
        "format": FORMAT,
        "kind": origin.kind,
        "tokenizer": origin.tokenizer,
        "data": origin.data,
        "bases": dict(origin.bases),
        "packages": _versions(),
        "files": files,
    }


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder; CheckpointError when there is none, or of another format."""
    path = Path(path)
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        version = manifest["format"]
    except OSError as error:
        raise CheckpointError(
            f"{path} is no checkpoint: its {MANIFEST} cannot be read ({error.strerror}); give a step-* or final folder"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the {MANIFEST} of the checkpoint {path} is damaged; take another one"
        ) from error
    if version != FORMAT:
        raise CheckpointError(
            f"the checkpoint {path} has format {version}, this program reads {FORMAT}; update it"
        )
    absent = [key for key in ("kind", "tokenizer", "data", "files") if key not in manifest]
    if absent:
        raise CheckpointError(
            f"the {MANIFEST} of the checkpoint {path} lacks {absent[0]!r}; take another one"
        )
    texts = [manifest[key] for key in ("kind", "tokenizer", "data")]
    valid = isinstance(manifest["files"], dict) and all(isinstance(value, str) for value in texts)
    if not valid or not _are_fingerprints(_bases(manifest)):
        raise CheckpointError(f"the {MANIFEST} of the checkpoint {path} is damaged; take another one")
    return manifest


def verified(path: Path, facts: Mapping[str, Any]) -> bytes:
    """The bytes of a file; CheckpointError when they are not those that the manifest records."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the checkpoint file {path} cannot be read ({error.strerror})") from error
    if facts != facts_of(content):
        raise CheckpointError(
            f"the checkpoint file {path} is damaged: its {len(content)} bytes differ from the manifest's record"
        )
    return content


def facts_of(content: bytes) -> dict[str, Any]:
    """What a manifest records of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def verify_checkpoint(path: str | Path) -> None:
    """Read every byte of a checkpoint; CheckpointError names the first file that is missing or changed."""
    for name, facts in read_manifest(Path(path))["files"].items():
        verified(Path(path) / name, facts)


def origin_in(manifest: Mapping[str, Any], config: bytes) -> Origin:
    """The origin that a manifest records, with the content of the configuration beside it."""
    return Origin(
        manifest["kind"],
        manifest["tokenizer"],
        manifest["data"],
        json.loads(config),
        _bases(manifest),
    )


def _bases(manifest: Mapping[str, Any]) -> Any:
    """The fingerprints of frozen weights; manifests once recorded the text encoder's alone."""
    older = {"text_encoder": manifest["text_encoder"]} if "text_encoder" in manifest else {}
    return manifest.get("bases", older)


def _are_fingerprints(bases: Any) -> bool:
    """Whether it is a table of hashes and lists of numbers."""
    return isinstance(bases, dict) and all(
        isinstance(value, str)
        or (isinstance(value, list) and value and all(isinstance(x, (int, float)) for x in value))
        for value in bases.values()
    )


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
