"""Figures over mined clues: lengths, occurrences, and how many queries and answers got one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from gemkr.data.clues import MinedClue
from gemkr.training.mining.many import mine_in_order
from gemkr.training.mining.mine import Miner
from gemkr.types import Query

NAMED = 5
"""How many of the queries without a clue a table names."""


@dataclass(slots=True)
class MiningStatistics:
    """Figures over mined clues: fed query by query, read as a table."""

    queries: int = 0
    answers: int = 0
    answers_covered: int = 0
    rows: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    without: list[str] = field(default_factory=list)
    """Names of the queries that got no clue."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why they got none."""

    def add(self, query: Query, clues: list[MinedClue], reason: str = "") -> None:
        """Count a query and its clues, or the `reason` why it has none."""
        self.queries += 1
        if not clues:
            self.without.append(query.query_id)
            self.reasons[reason] += 1
        self.answers += len(set(query.answers))
        self.answers_covered += len({clue.answer for clue in clues if clue.answer is not None})
        for clue in clues:
            self.rows.setdefault(clue.form, []).append((len(clue.tokens), clue.count))

    def lines(self) -> Iterator[str]:
        """One line per figure."""
        yield f"queries            {self.queries:>9,}  with a clue {_share(self.queries - len(self.without), self.queries)}"
        yield f"answers            {self.answers:>9,}  with a clue {_share(self.answers_covered, self.answers)}"
        for form, rows in sorted(self.rows.items()):
            lengths, counts = np.array(rows).T
            yield (
                f"{form + ' clues':<18} {len(rows):>9,}  tokens {lengths.mean():.2f}  unique {_share((counts == 1).sum(), len(rows))}"
                f"  occurrences: median {int(np.median(counts))}, 95 % {int(np.quantile(counts, 0.95))}, most {counts.max()}"
            )
        if self.without:
            more = f" and {len(self.without) - NAMED:,} more" if len(self.without) > NAMED else ""
            yield f"without a clue     {len(self.without):>9,}  {', '.join(self.without[:NAMED])}{more}"
        for reason, count in self.reasons.most_common():
            yield f"                   {count:>9,}  {reason}"


def mine_all(
    miner: Miner,
    queries: Sequence[Query],
    statistics: MiningStatistics,
    *,
    processes: int = 1,
    done: Callable[[], object] = lambda: None,
) -> Iterator[MinedClue]:
    """The clues of all queries, one by one, counted in `statistics`; `done` is called after each query. `processes` as for
    `mine_in_order`."""
    for query, (clues, reason) in zip(queries, mine_in_order(miner, queries, processes), strict=True):
        statistics.add(query, clues, reason)
        yield from clues
        done()


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
