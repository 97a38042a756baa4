"""Figures by data set and by groups of data sets, such as MMEB's meta-tasks: the mean of a group counts every set alike, however many
queries it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gemkr.evaluation.metrics import Scores

ALL = "all"
"""The group of all data sets."""


@dataclass(frozen=True)
class Means:
    """Of each metric, over the queries of a set, or over the sets of a group that were there: `count` of them, of `wanted`."""

    values: Mapping[str, float]
    count: int
    wanted: int


@dataclass(frozen=True)
class GroupedScores:
    """By name: the means of data sets, in the order of the queries, and of groups, ALL the last one."""

    sets: Mapping[str, Means]
    groups: Mapping[str, Means]


def grouped_scores(scores: Scores, groups: Mapping[str, Sequence[str]]) -> GroupedScores | None:
    """The means of data sets, and of the groups that have one; None where no query is of a data set.

    A query's data set is what stands before the first ":" in its id; queries without one belong to none.
    """
    rows: dict[str, list[int]] = {}
    for row, query_id in enumerate(scores.query_ids):
        name, colon, _ = query_id.partition(":")
        if colon:
            rows.setdefault(name, []).append(row)
    if not rows:
        return None
    sets = {
        name: Means({m: float(v[own].mean()) for m, v in scores.values.items()}, len(own), len(own))
        for name, own in rows.items()
    }
    found = {name: _mean(sets, dict.fromkeys(wanted)) for name, wanted in groups.items()}
    everything = {**sets, **dict.fromkeys(name for wanted in groups.values() for name in wanted)}
    return GroupedScores(
        sets, {**{name: mean for name, mean in found.items() if mean.count}, ALL: _mean(sets, everything)}
    )


def _mean(sets: Mapping[str, Means], wanted: Mapping[str, object]) -> Means:
    there = [sets[name].values for name in wanted if name in sets]
    values = {m: sum(one[m] for one in there) / len(there) for m in there[0]} if there else {}
    return Means(values, len(there), len(wanted))
