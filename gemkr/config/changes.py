"""A setting that holds some of the settings of a dataclass: those that differ from another section's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemkr.config.files import from_mapping, to_mapping
from gemkr.errors import ConfigError


@dataclass(frozen=True)
class ChangesOf:
    """`Annotated[dict[str, Any], ChangesOf(KIND)]`: plain values of some settings of KIND, checked as KIND's are, their paths located."""

    kind: type

    def settings(self, values: Any = None) -> list[type]:
        """The dataclass whose settings may stand here."""
        return [self.kind]

    def read(self, values: Any, where: str, base: Path | None = None) -> dict[str, Any]:
        """The given settings alone, fit for `from_mapping`; raises ConfigError as that does. Relative paths count from `base`."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} must be a mapping, it is {values!r}")
        read = to_mapping(from_mapping(dict(values), self.kind, where, base))
        return {str(key): read[key] for key in values}
