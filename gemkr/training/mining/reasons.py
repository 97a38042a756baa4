"""Why mining found no clue for a query, from the passages that the miner read."""

from __future__ import annotations

from itertools import islice

from gemkr.training.mining.mine import Miner, round_robin
from gemkr.types import Query


def reason_without_clues(miner: Miner, query: Query) -> str:
    """A reason for a query for which `miner.mine` gives nothing; the same words for the same reason, so that they can be
    counted. Cost: about as much as mining it."""
    settings, gold = miner.settings, miner.gold(query)
    if settings.anchor == "question":
        if not len(gold):
            return "no gold passage to quote"
        if not miner.quoted(query, gold):
            return (
                f"the question quotes no whole word of its gold passages within {settings.max_tokens} tokens"
            )
        return f"what the question quotes of its gold passages occurs more than {settings.common:,} times"
    answers = [answer for answer in dict.fromkeys(query.answers) if answer.strip()]
    if not answers and not len(gold):
        return "neither an answer nor a gold passage"
    candidates = islice(round_robin([(a, miner.rank(query, a, gold)) for a in answers]), settings.patience)
    holders = [(a, doc) for a, doc in candidates if miner.holds(a, doc)]
    if not holders:
        return _without_holders(miner, answers, len(gold) > 0)
    lengths = [stop - start for a, doc in holders for start, stop in miner.passages.read(doc).places(a)]
    if min(lengths) > settings.max_tokens:
        return f"its answers take more than {settings.max_tokens} tokens"
    return f"no slice of {settings.max_tokens} tokens that holds an answer begins and ends with a word"


def _without_holders(miner: Miner, answers: list[str], has_gold: bool) -> str:
    """The reason when no passage that was read holds an answer as whole words."""
    settings = miner.settings
    if has_gold and "long" in settings.forms:
        return f"its gold passages open with a word of more than {settings.max_tokens} tokens"
    if has_gold:
        return "its gold passages hold none of its answers"
    if any(miner.occurrences(answer) > settings.common for answer in answers):
        return "its answers are frequent, and the passages that BM25 ranks first hold none of them"
    return "none of its answers occurs in the corpus as whole words"
