"""A torch file that the authors of GeMKR or UniIR publish: a state dict under `model`, and plain values beside it.

Unpickles nothing but tensors and plain values. Knows no names of tensors.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemkr.errors import CheckpointError, first_line
from gemkr.training.checkpoints.naming import listed


class _Settings:
    """Stands for each class of `_SETTINGS` while a file is read: takes what it is given and keeps nothing."""

    def __new__(cls, *_: Any) -> _Settings:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None: ...


_SETTINGS = (
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "collections.defaultdict",
)


def read_published(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors under `model` and the plain values (such as `epoch`) beside it.

    Read with `torch.load(weights_only=True)`: a file that needs more is refused, except that the settings of OmegaConf, which UniIR
    saves beside them, are passed over unread. Raises CheckpointError.
    """
    try:
        with torch.serialization.safe_globals([(_Settings, name) for name in _SETTINGS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"the checkpoint {path} is no torch file of tensors and plain values, and nothing else is unpickled "
            f"({first_line(error)}); ask its owner to save {{'model': state_dict}} alone"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint {path} is no readable torch file ({first_line(error)}); download it again"
        ) from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{path} holds no state dict under 'model', as the checkpoints of GeMKR's and UniIR's authors do; name one of theirs"
        )
    strange = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"{path}: {listed(strange)} under 'model' must be tensors; name another file")
    return dict(state), {k: v for k, v in content.items() if isinstance(v, (int, float, str))}
