"""A section of a configuration that names a class: what was read of it, and the object it describes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Section:
    """`kind` as it was written, the class it names, and that class's settings; `where` it stands, for messages."""

    where: str
    kind: str
    cls: type
    config: Any

    def build(self, sources: Any) -> Any:
        """The object that the section describes."""
        return self.cls.from_config(self.config, sources)


def section_files(section: Section | None) -> dict[str, str | None]:
    """The files and folders that a section's object is read from, by what they are to it; none where its class names none."""
    named = getattr(section.cls, "input_files", None) if section is not None else None
    return dict(named(section.config)) if named is not None else {}
