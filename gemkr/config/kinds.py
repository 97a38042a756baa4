"""Sections that name a class: `kind: bm25`, or `kind: module:Class` for a class of one's own.

A class that a section can name has a frozen dataclass `Config` (its settings, without `kind`) and a class method
`from_config(config, sources)`. Short names stand in one plain dict for each role, where the role is known.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gemkr.config.files import from_mapping
from gemkr.config.section import Section
from gemkr.errors import ConfigError


@dataclass(frozen=True)
class Role:
    """What classes are named for: `what` for messages, the method that makes a class one, and the short names known.

    `Annotated[Section, ROLE]` is the annotation of a setting that holds such a section.
    """

    what: str
    method: str
    known: Mapping[str, str]

    def settings(self, values: Any = None) -> list[type]:
        """The dataclass of the settings of the kind that a section's `values` name; without one, those of all known kinds, except
        for those whose packages are not installed."""
        named = values.get("kind") if isinstance(values, Mapping) else None
        found = []
        for kind in [named] if isinstance(named, str) else self.known:
            with suppress(ConfigError):
                found.append(find_class(kind, self, self.what).Config)
        return found

    def read(self, values: Any, where: str, base: Path | None = None) -> Section:
        """A section `{kind: ..., settings}`, or a kind alone, which stands for its default settings.

        Relative paths count from the folder `base`. Raises ConfigError for a section without a kind, an unknown kind, a class
        that is not of the role, and settings that the class does not have.
        """
        if isinstance(values, str):
            values = {"kind": values}
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{where} must be a section with a kind, it is {values!r}; write {{kind: NAME, ...}}"
            )
        kind = values.get("kind")
        if not isinstance(kind, str):
            raise ConfigError(
                f"{where} has no kind; add kind: one of {', '.join(self.known)}, or module:Class"
            )
        cls = find_class(kind, self, where)
        settings = {key: value for key, value in values.items() if key != "kind"}
        return Section(where, kind, cls, from_mapping(settings, cls.Config, where, base))


@dataclass(frozen=True)
class Variants:
    """Settings of one thing that comes in several kinds: `what` for messages, short names -> "module:Dataclass", and the kind of a
    section that names none. `Annotated[One | Other, VARIANTS]` is the annotation of a setting that holds one of them."""

    what: str
    known: Mapping[str, str]
    default: str

    def settings(self, values: Any = None) -> list[type]:
        """The dataclass of the kind that a section's `values` name; without values, those of all kinds."""
        if not isinstance(values, Mapping):
            return [self._class(kind) for kind in self.known]
        kind = values.get("kind", self.default)
        return [self._class(kind)] if kind in self.known else []

    def read(self, values: Any, where: str, base: Path | None = None) -> Any:
        """The settings of a section; ConfigError for an unknown kind, and as `from_mapping` raises."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a mapping, it is {values!r}")
        kind = values.get("kind", self.default)
        if kind not in self.known:
            raise ConfigError(
                f"{where}: the kind {kind!r} of {self.what} is unknown; known are {', '.join(self.known)}"
            )
        cls = self._class(kind)
        named = {f.name for f in fields(cls)}
        given = {key: value for key, value in values.items() if key != "kind" or key in named}
        return from_mapping(given, cls, where, base)

    def _class(self, kind: str) -> type:
        module, _, name = self.known[kind].partition(":")
        return getattr(import_module(module), name)


def find_class(kind: str, role: Role, where: str) -> type:
    """The class that a kind names; ConfigError when there is none, or it is not of the role."""
    home = role.known.get(kind, kind)
    module, _, name = home.partition(":")
    if not name:
        raise ConfigError(
            f"{where}: the kind {kind!r} of {role.what} is unknown; known are {', '.join(role.known)}, and module:Class for "
            "a class of your own"
        )
    try:
        found = getattr(_import(module), name)
    except ImportError as error:
        raise ConfigError(
            f"{where}: {module!r} of the kind {kind!r} cannot be imported ({error}); run gemkr in the folder that holds it, or "
            "install it"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{where}: the module {module!r} of the kind {kind!r} has no {name!r}") from error
    settings = getattr(found, "Config", None)
    missing = [part for part in (role.method, "from_config") if not callable(getattr(found, part, None))]
    missing += [] if is_dataclass(settings) else ["Config"]
    if missing:
        raise ConfigError(f"{where}: {kind!r} is no {role.what}: it has no {' and no '.join(missing)}")
    return found


def _import(module: str) -> Any:
    """A module, the current folder among the places to look in, as `python -m` has it."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    return import_module(module)
