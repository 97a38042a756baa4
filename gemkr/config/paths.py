"""Settings that are paths: part of the annotation of a setting, and where a relative path counts from.

What stands in a file counts from the file's folder. What was given at the command line, or by an environment variable, counts
from the current folder, and so does all that a packaged configuration says. `${package}` stands for
the folder of the installed package.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

PACKAGE = Path(__file__).resolve().parents[1]
HERE = "\x01here:"
"""Stands before a text, while a configuration is put together, that counts from the current folder."""
_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)\s*(?:,\s*)?")


class FromHere(str):
    """A text of a configuration that, where it is a path, counts from the current folder and not from the file's."""


@dataclass(frozen=True)
class PathSetting:
    """That a text is a path; with `or_name`, one without a folder and a suffix is a name, and no path."""

    or_name: bool = False

    def __str__(self) -> str:
        return "path or name" if self.or_name else "path"

    def locate(self, text: str, base: Path | None) -> str:
        """The path as it counts from the current folder. `base` is the folder of the file that it stands in, None where it counts
        from the current folder already."""
        if base is None or isinstance(text, FromHere) or (self.or_name and is_name(text)):
            return str(text)
        return os.path.normpath(base / text)


FilePath = Annotated[str, PathSetting()]
"""A file or folder."""
TemplatePath = Annotated[str, PathSetting(or_name=True)]
"""A file, or the name of one that the package ships."""


def is_name(text: str) -> bool:
    """Whether a text is a bare word: no folder, no suffix."""
    return re.fullmatch(r"[\w-]+", text) is not None


def mark(values: Any, *, given: bool) -> Any:
    """The raw values of a YAML file, or those `given` at the command line, with `${package}` filled in and HERE before each text
    that counts from the current folder: all that are given, and those that begin with an environment variable that is set."""
    if isinstance(values, dict):
        return {key: mark(value, given=given) for key, value in values.items()}
    if isinstance(values, list):
        return [mark(value, given=given) for value in values]
    if not isinstance(values, str) or values == "???":
        return values
    values = values.replace("${package}", str(PACKAGE))
    refers = re.fullmatch(r"\$\{(?!oc\.env:).*\}", values) is not None
    return HERE + values if _from_environment(values) or (given and not refers) else values


def _from_environment(text: str) -> bool:
    """Whether a text begins with an environment variable that is set, maybe as the default of others that are not."""
    at = 0
    while variable := _VARIABLE.match(text, at):
        if variable[1] in os.environ:
            return True
        at = variable.end()
    return False


def unmark(values: Any) -> Any:
    """The same values, resolved, with marked texts as FromHere."""
    if isinstance(values, dict):
        return {key: unmark(value) for key, value in values.items()}
    if isinstance(values, list):
        return [unmark(value) for value in values]
    if isinstance(values, str) and HERE in values:
        plain = values.replace(HERE, "")
        return FromHere(plain) if values.startswith(HERE) else plain
    return values
