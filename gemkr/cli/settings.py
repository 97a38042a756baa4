"""`gemkr settings`: every key of a configuration file, with its type, default and meaning, from the dataclasses themselves."""

from __future__ import annotations

import argparse
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from gemkr.config.kinds import Variants

if TYPE_CHECKING:
    from gemkr.config.kinds import Role

HELP = "list the keys of a configuration file, with types, defaults and what they mean"
KINDS = ("train", "contrastive", "reranker", "pretrain", "reader", "eval")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind",
        choices=KINDS,
        help="whose configuration: of `gemkr train` (for clues, contrastive, or of a reranker), pretrain, train-reader or eval",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.answering import READERS
    from gemkr.answering.config import ReaderTrainConfig
    from gemkr.evaluation.config import EvalConfig
    from gemkr.models.encoders import ENCODERS
    from gemkr.rerankers.config import RerankerTrainConfig
    from gemkr.retrievers.compose import RETRIEVERS
    from gemkr.training.config import PretrainConfig, TrainConfig
    from gemkr.training.contrastive.config import ContrastiveConfig

    kinds = (
        TrainConfig,
        ContrastiveConfig,
        RerankerTrainConfig,
        PretrainConfig,
        ReaderTrainConfig,
        EvalConfig,
    )
    kind = dict(zip(KINDS, kinds, strict=True))[args.kind]
    print("\n".join(describe(kind)))
    if kind is EvalConfig:
        print("\n".join(_sections_of(RETRIEVERS, "retrievers")))
        print("\n".join(_sections_of(READERS, "answer", "reader")))
    if kind is ContrastiveConfig:
        print("\n".join(_sections_of(ENCODERS, "encoder")))
    return 0


def _sections_of(role: Role, prefix: str, section: str | None = None) -> Iterator[str]:
    """The settings of every known kind of a role, each as a section of that name, or called `section`, would hold them."""
    from gemkr.config.kinds import find_class

    for name in role.known:
        where = f"{prefix}.{section or name}"
        yield from describe(find_class(name, role, prefix).Config, where)
        yield f"{where}.kind: text = {json.dumps(name)}"


def describe(kind: type, prefix: str = "", values: Any = None) -> Iterator[str]:
    """The lines of a section: what its docstring says, its keys, then the sections inside it; defaults are those of
    `values`, where the section that holds this one has some of its own."""
    hints = typing.get_type_hints(kind, include_extras=True)
    defaults = {f.name: _default(f) if values is None else getattr(values, f.name) for f in fields(kind)}
    if prefix:
        yield f"\n[{prefix}]"
    yield from (f"# {line.strip()}".rstrip() for line in (kind.__doc__ or "").strip().splitlines())
    for name, value in defaults.items():
        yield f"{prefix + '.' if prefix else ''}{name}: {_name(hints[name])}{_shown(value)}"
    for name, value in defaults.items():
        for section in _sections(hints[name]):
            inner = value if is_dataclass(value) else None
            yield from describe(section, f"{prefix}.{name}" if prefix else name, inner)


def _sections(hint: Any) -> list[type]:
    """The dataclasses that a setting may hold, one or several of; none for a section of a role, whose kinds are listed apart."""
    if is_dataclass(hint):
        return [] if hint.__name__ == "Section" else [hint]
    if typing.get_origin(hint) is typing.Annotated:
        allowed = typing.get_args(hint)[1]
        return allowed.settings() if isinstance(allowed, Variants) else []
    return next((found for found in map(_sections, typing.get_args(hint)) if found), [])


def _name(hint: Any) -> str:
    """A type in words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated and isinstance(parts[1], Variants):
        return f"a section of a kind ({', '.join(parts[1].known)}; {parts[1].default} where none is named)"
    if origin is typing.Annotated and hasattr(parts[1], "known"):
        return f"a section of a kind ({', '.join(parts[1].known)}, or module:Class)"
    if origin is dict:
        return f"by name, {_name(parts[1])}"
    if hint is Any:
        return "a value"
    if origin is typing.Annotated and parts[0] is str:
        return str(parts[1])
    if origin is typing.Annotated:
        return f"{_name(parts[0])}, {parts[1]}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(part) for part in parts)
    if origin is tuple:
        return f"list of {_name(parts[0])}"
    if is_dataclass(hint):
        return "a section"
    return {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}.get(
        hint, str(hint)
    )


def _default(f: Field) -> Any:
    """The value that a setting has where none is given; MISSING where one must be."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def _shown(value: Any) -> str:
    if value is MISSING:
        return "  (required)"
    if hasattr(value, "kind"):
        return f" = {value.kind}"
    return "" if is_dataclass(value) else f" = {json.dumps(value, ensure_ascii=False)}"
