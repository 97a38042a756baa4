"""Configurations that come with the package and go by name: `gemkr train small` reads `gemkr/configs/train/small.yaml`."""

from __future__ import annotations

from pathlib import Path

from gemkr.config.paths import PACKAGE, is_name
from gemkr.errors import ConfigError

FOLDER = PACKAGE / "configs"
"""One folder for each command that reads configurations."""


def names_of(command: str) -> list[str]:
    """The names of the packaged configurations of `gemkr pretrain`, `train` or `eval`."""
    return sorted(path.stem for path in (FOLDER / command).glob("*.yaml"))


def find_config(given: str | Path, command: str) -> Path:
    """The file that a command's CONFIG stands for: a name is that of a packaged configuration, all else a path.

    Raises ConfigError for a name that no packaged configuration has.
    """
    if not is_name(str(given)):
        return Path(given)
    path = FOLDER / command / f"{given}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no configuration of gemkr {command} is called {str(given)!r}; there are {', '.join(names_of(command))}, and a "
            "file of your own goes by its path, such as mine.yaml"
        )
    return path


def base_of(path: Path) -> Path | None:
    """The folder that relative paths in a configuration count from; None, the current folder, for a packaged one."""
    return None if path.resolve().is_relative_to(FOLDER) else path.parent
