"""From the section `retrievers` of a configuration to retrievers: names to classes, and what a run of each depends on.

A retriever's class owns its settings (`Config`), how it is built (`from_config(config, sources)`) and which files it reads
(`input_files(config)`); to add one, write it and name it by `kind: module:Class`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gemkr.config.files import to_mapping
from gemkr.config.kinds import Role
from gemkr.config.section import Section, section_files
from gemkr.errors import ConfigError

RETRIEVERS = Role(
    "retriever",
    "retrieve",
    {
        "generative": "gemkr.retrievers.generative.retriever:GenerativeRetriever",
        "free_text": "gemkr.retrievers.free_text:FreeTextRetriever",
        "rescored": "gemkr.retrievers.rescored:RescoredRetriever",
        "bm25": "gemkr.retrievers.lexical:BM25Retriever",
        "dense": "gemkr.retrievers.dense:DenseRetriever",
        "late_interaction": "gemkr.retrievers.late_interaction:LateInteractionRetriever",
        "fusion": "gemkr.retrievers.fusion:FusionRetriever",
        "reranked": "gemkr.retrievers.reranked:RerankedRetriever",
        "saved": "gemkr.retrievers.saved:SavedRetriever",
        "oracle": "gemkr.retrievers.oracle:OracleRetriever",
    },
)
"""Short names of kinds -> "module:Class"."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_sections(sections: Mapping[str, Section]) -> None:
    """Raise ConfigError unless the sections are compatible.

    Their names become folders, so that no two may differ in case only; what `of` names must be there, without a circle.
    """
    if not sections:
        raise ConfigError("retrievers has no section; add one, such as bm25: {kind: bm25}")
    folders: dict[str, str] = {}
    for name in sections:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"the retriever {name!r} cannot be called that, since a folder is named after it; use letters, digits, and _ - ."
            )
        other = folders.setdefault(name.casefold(), name)
        if other != name:
            raise ConfigError(
                f"the retrievers {other!r} and {name!r} would write into one folder; give one another name"
            )
    for name, section in sections.items():
        for inner in parts_of(section):
            if inner not in sections:
                raise ConfigError(
                    f"the retriever {name!r} is of {inner!r}, which has no section in retrievers; there are {', '.join(sections)}"
                )
    for name in sections:
        _refuse_circle(name, sections, ())


def parts_of(section: Section) -> tuple[str, ...]:
    """The names of the retrievers that one is built over: its setting `of`."""
    named = getattr(section.config, "of", ())
    return (named,) if isinstance(named, str) else tuple(named)


def run_settings(name: str, sections: Mapping[str, Section]) -> dict[str, Any]:
    """What decides a retriever's results beside queries and corpus: its settings and those of the retrievers that it is built
    over, as plain values. `run_files` lists the files they name."""
    section = sections[name]
    inner = {part: run_settings(part, sections) for part in parts_of(section)}
    return {"kind": section.kind, **to_mapping(section.config), **({"over": inner} if inner else {})}


def run_files(name: str, sections: Mapping[str, Section]) -> dict[str, str | None]:
    """Every path that a retriever, and those that it is built over, are read from, by what is read there."""
    section = sections[name]
    files = section_files(section)
    for part in parts_of(section):
        files |= {f"{part}.{what}": path for what, path in run_files(part, sections).items()}
    return files


def reads_pictures(name: str, sections: Mapping[str, Section]) -> bool:
    """Whether a retriever, or one that it is built over, looks at pictures."""
    section = sections[name]
    return any(getattr(one.cls, "reads_pictures", False) for one in _with_inner(section)) or any(
        reads_pictures(part, sections) for part in parts_of(section)
    )


def _with_inner(section: Section) -> Iterator[Section]:
    """A section and those inside it, such as a reranker's scorer's encoder."""
    yield section
    for value in vars(section.config).values():
        if isinstance(value, Section):
            yield from _with_inner(value)


def answers_new_questions(name: str, sections: Mapping[str, Section]) -> bool:
    """Whether a retriever, and those that it is built over, rank documents for queries that no file or run has named."""
    section = sections[name]
    return not getattr(section.cls, "known_queries_only", False) and all(
        answers_new_questions(part, sections) for part in parts_of(section)
    )


def _refuse_circle(name: str, sections: Mapping[str, Section], above: tuple[str, ...]) -> None:
    if name in above:
        circle = " of ".join([*above[above.index(name) :], name])
        raise ConfigError(f"retrievers: {circle} is a circle; let one of them be of another retriever")
    for part in parts_of(sections[name]):
        _refuse_circle(part, sections, (*above, name))
