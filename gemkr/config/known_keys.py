"""What the annotations of a dataclass of settings say of its keys, at any depth: where one stands, and which is meant by a wrong one."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

SHOWN = 5
"""How many known keys a complaint about an unknown one names."""
CLOSE = 0.75
"""How much of an unknown key must be the same in one inside a section to be taken for it."""


def suggest_key(key: str, kind: type, values: dict[str, Any]) -> str:
    """The hint for a key that a class does not have: where it is deeper (in a section that `values` have, if in one of them), else
    the one spelled most alike, else the first ones."""
    names = [f.name for f in dataclasses.fields(kind)]
    places: dict[str, list[str]] = {}
    for place in _places(kind, values):
        places.setdefault(place.rsplit(".", 1)[-1], []).append(place)
    near = difflib.get_close_matches(key, names, n=1)
    deeper = [key] if key in places else difflib.get_close_matches(key, places, n=1, cutoff=CLOSE)
    if deeper and not (near and _alike(key, near[0]) >= _alike(key, deeper[0])):
        within = [place for place in places[deeper[0]] if place.split(".")[0] in values]
        meant = sorted(dict.fromkeys(within or places[deeper[0]]), key=lambda place: place.count("."))
        return f"did you mean {' or '.join(meant[:2])}?"
    if near:
        return f"the nearest known key is {near[0]!r}"
    return f"known are {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}, as gemkr settings lists"


def stands_deeper(key: str, kind: type, values: dict[str, Any]) -> bool:
    """Whether a key is one of a section that `values` have, so that it only lacks the names before it."""
    places = _places(kind, values)
    return any(place.endswith(f".{key}") and ".NAME." not in place for place in places)


def _alike(one: str, other: str) -> float:
    """0 to 1: how much of two words is the same."""
    return difflib.SequenceMatcher(None, other, one).ratio()


def _places(hint: Any, values: Any = None, prefix: str = "", within: tuple[type, ...] = ()) -> Iterator[str]:
    """The dotted keys inside the sections of a dataclass, at any depth. Sections by name have the names that `values` give
    them, and are of the kind that those say; else they are called NAME and may be of all kinds of their role."""
    given = values if isinstance(values, dict) else {}
    if typing.get_origin(hint) is dict:
        for name, section in (given or {"NAME": None}).items():
            yield from _places(typing.get_args(hint)[1], section, f"{prefix}{name}.", within)
    elif typing.get_origin(hint) is Annotated:
        for kind in getattr(typing.get_args(hint)[1], "settings", lambda values: [])(values):
            yield from _places(kind, values, prefix, within)
    elif typing.get_origin(hint) in (types.UnionType, typing.Union):
        yield from _places(without_none(hint), values, prefix, within)
    elif dataclasses.is_dataclass(hint) and hint not in within:
        for name, inner in typing.get_type_hints(hint, include_extras=True).items():
            if within:
                yield f"{prefix}{name}"
            yield from _places(inner, given.get(name), f"{prefix}{name}.", (*within, hint))


def is_string(kind: type, key: str) -> bool:
    """Whether the setting of `kind` at a dotted key is a string, or a string or none."""
    hints: tuple[Any, ...] = (kind,)
    for name in key.split("."):
        known = [typing.get_type_hints(hint) for hint in hints if dataclasses.is_dataclass(hint)]
        hints = tuple(inner for own in known for inner in _alternatives(own.get(name)))
    return str in hints


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows beside None."""
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return (hint,)
    return tuple(a for a in typing.get_args(hint) if a is not type(None))


def without_none(hint: Any) -> Any:
    """The type that a hint allows beside None."""
    (inner,) = _alternatives(hint)
    return inner
