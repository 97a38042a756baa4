"""The beams of one query and how they advance by one token: groups, diversity, and what is kept of them.

Group beam search after Vijayakumar et al. (2018) as Hugging Face published it; our own rules of heads and documents are in `claims`.
It sees candidates as arrays on the host; it knows no model and no index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.decoding.claims import Beam, Candidate, Claims
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import Constraint
from gemkr.decoding.hypotheses import Finished, Pool, best_clues
from gemkr.decoding.logits import Candidates
from gemkr.text.words import Words


class QuerySearch:
    """The state of one query's search; `groups[g]` holds the live beams of group g, `pools[g]` its finished clues.

    `chosen` lists the tokens that the groups have chosen at this step (diversity counts them).
    """

    def __init__(self, settings: DecodingConfig, constraint: Constraint, words: Words, row: int) -> None:
        self.settings = settings
        self.words = words
        self.size = settings.beam_size // settings.groups
        self.groups = [[Beam((), 0.0, 0.0, row)] for _ in range(settings.groups)]
        self.pools = [
            Pool(
                self.size,
                settings.length_penalty,
                per_head=settings.beams_per_head if settings.group_by_head else None,
                document_penalty=settings.document_penalty,
            )
            for _ in range(settings.groups)
        ]
        self._claims = Claims(settings, constraint, words, self.pools)
        self.chosen: list[int] = []

    @property
    def live(self) -> list[Beam]:
        return [beam for group in self.groups for beam in group]

    def begin_step(self) -> None:
        """Clear what the beams of the last step claimed."""
        self._claims.clear()
        self.chosen.clear()

    def walk(
        self,
        g: int,
        ranked: Sequence[Candidate],
        spans: tuple[np.ndarray, np.ndarray],
        finished: Sequence[bool],
    ) -> None:
        """Replace group g by the best of its candidates.

        `ranked`: (total, beam of the group, token or None for "the model ends it", log-probability), best
        first; `spans`: lo and hi of the batch's rows; `finished[i]`: nothing may follow beam i, it is finished
        as it stands. A clue that the model ends counts only among the first `size` candidates (as
        published), a clue stopped at one document among twice as many.
        """
        group, pool, claims, live = self.groups[g], self.pools[g], self._claims, []
        lo, hi = spans
        for beam, is_finished in zip(group, finished):
            if is_finished and beam.tokens:
                self._finish(pool, beam, beam.log_prob, beam.total, int(lo[beam.row]), int(hi[beam.row]))
        rank = 0
        for total, i, token, log_prob in claims.ordered(g, group, ranked, spans):
            parent = group[i]
            if token is None:
                if rank < self.size:
                    row = parent.row
                    self._finish(pool, parent, parent.log_prob + log_prob, total, int(lo[row]), int(hi[row]))
                rank += 1
                continue
            child = claims.child(parent, token, log_prob, total)
            if claims.heads and not claims.claim_head(child, pool):
                continue
            if claims.documents and (span := claims.claim_document(child, token, spans)) is not None:
                if rank < 2 * self.size:
                    self._finish(pool, child, child.log_prob, total, *span)
                rank += 1
                continue
            live.append(child)
            rank += 1
            if len(live) == self.size:
                break
        self.chosen += [beam.tokens[-1] for beam in live]
        self.groups[g] = self._worth_keeping(pool, live, ranked)

    def close(self, spans: tuple[np.ndarray, np.ndarray], whole: np.ndarray) -> None:
        """Finish the live beams at the maximum length whose row is `whole` (bool[rows], like `spans`); the others stay."""
        lo, hi = spans
        for g, group in enumerate(self.groups):
            for beam in group:
                row = beam.row
                if whole[row]:
                    self._finish(self.pools[g], beam, beam.log_prob, beam.total, int(lo[row]), int(hi[row]))
            self.groups[g] = [beam for beam in group if not whole[beam.row]]

    def go_on(self, step: Candidates, most: int) -> None:
        """Extend each live beam by its best token, to end the character or word that it stands in; drop those that nothing
        may follow, or that cannot win within `most` tokens."""
        for g, group in enumerate(self.groups):
            longer = []
            for beam in group:
                token, log_prob = int(step.tokens[beam.row, 0]), float(step.log_probs[beam.row, 0])
                child = self._claims.child(beam, token, log_prob, beam.total + log_prob)
                pool = self.pools[g]
                if pool.attainable(child.total, len(child.tokens), most) > pool.worst:
                    longer.append(child)
            self.groups[g] = longer

    def growing(self) -> list[tuple[tuple[int, ...], float, bool]]:
        """(tokens, log-probability, finished) of all clues as they stand, best first, each token sequence once; at most `beam_size`."""
        clues = [(beam.tokens, beam.log_prob, False) for beam in self.live]
        clues += [(clue.tokens, clue.log_prob, True) for pool in self.pools for clue in pool.clues]
        best = {clue[0]: clue for clue in sorted(clues, key=lambda clue: clue[1])}
        return list(reversed(best.values()))[: self.settings.beam_size]

    def stop(self) -> None:
        """Give up: nothing grows any more, and nothing was found."""
        self.groups = [[] for _ in self.groups]
        for pool in self.pools:
            pool.clues.clear()

    def results(self) -> list[Finished]:
        """All finished clues, best first, each token sequence once, at most `beam_size`."""
        return best_clues((c for pool in self.pools for c in pool.clues), self.settings.beam_size)

    def _finish(self, pool: Pool, beam: Beam, log_prob: float, total: float, lo: int, hi: int) -> None:
        pool.add(Finished(beam.tokens, log_prob, total, lo, hi, self._claims.head(beam), beam.document))

    def _worth_keeping(self, pool: Pool, live: list[Beam], ranked: Sequence[Candidate]) -> list[Beam]:
        """No beam once the group is done by the published rule; without diversity, none that cannot win."""
        if not live:
            return live
        length = len(live[0].tokens)
        if pool.full and pool.worst >= pool.normalized(ranked[0][0], length):
            return []
        if self.settings.diversity and self.settings.groups > 1:
            return live
        most = self.settings.max_tokens
        return [beam for beam in live if pool.attainable(beam.total, length, most) > pool.worst]
