"""How much the question explains of a clue's tokens: of the answer, and of the tokens after it.

    python benchmarks/clue_tokens.py CONFIG clues.jsonl [key=value ...]

Reads an evaluation configuration for its model and queries, and clues mined for these queries that go on after the answer
(`gemkr mine --forms long`). Prints nats per token of the answer and of what follows it, behind the clue's own question and behind
another one drawn at random: what the model gains by its own is what it knows about this question's clue. Nothing is generated.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gemkr.config.files import load_config
from gemkr.data.clues import MinedClue, read_clues
from gemkr.data.queries import read_queries
from gemkr.evaluation.config import EvalConfig
from gemkr.models.gemkr.network import GeMKR
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.text.tokenizer import Tokenizer
from gemkr.training.checkpoints.trained import load_model
from gemkr.types import Query

BATCH = 16


def long_clues(
    clues: Sequence[MinedClue], tokenizer: Tokenizer
) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    """Of each query, (tokens, how many of them are the answer) of the clues that begin with their answer and go on."""
    found: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for clue in clues:
        answer = () if clue.answer is None else tuple(tokenizer.encode(clue.answer))
        if answer and len(clue.tokens) > len(answer) and clue.tokens[: len(answer)] == answer:
            found.setdefault(clue.query_id, []).append((clue.tokens, len(answer)))
    return found


@torch.no_grad()
def losses(
    model: GeMKR,
    prompts: Sequence[Query],
    clues: Sequence[list[tuple[tuple[int, ...], int]]],
    limit: int | None,
) -> tuple[list[float], list[float]]:
    """Nats of the answers' tokens and of those that follow them (the end of a clue is in neither)."""
    build = model.input_builder(max_prompt_tokens=limit)
    answers: list[float] = []
    others: list[float] = []
    for at in range(0, len(prompts), BATCH):
        pairs = zip(prompts[at : at + BATCH], clues[at : at + BATCH], strict=True)
        rows = [
            replace(build(query), clues=tuple(ClueTarget(tokens) for tokens, _ in own))
            for query, own in pairs
        ]
        batch = model.collate(rows).to(model.device)
        begun, rest, slots = model.target_losses(batch)
        found = [[loss] for loss in begun.tolist()]
        for clue, loss in zip(batch.clues.clue_of_slots()[slots].tolist(), rest.tolist(), strict=True):
            found[clue].append(loss)
        flat = [pair for own in clues[at : at + BATCH] for pair in own]
        for (tokens, head), row in zip(flat, found, strict=True):
            answers += row[:head]
            others += row[head : len(tokens)]
    return answers, others


def measure(
    model: GeMKR, queries: Mapping[str, Query], clues: Sequence[MinedClue], limit: int | None
) -> dict:
    """Means by place and prompt, and how many tokens they are of."""
    found = long_clues(clues, model.tokenizer)
    names = list(found)
    shuffled = names[:]
    random.Random(0).shuffle(shuffled)
    own = losses(model, [queries[name] for name in names], list(found.values()), limit)
    other = losses(model, [queries[name] for name in shuffled], list(found.values()), limit)
    return {
        place: {
            "tokens": len(right),
            "own question": sum(right) / len(right),
            "another": sum(wrong) / len(wrong),
            "gain": (sum(wrong) - sum(right)) / len(right),
        }
        for place, right, wrong in zip(("answer", "after it"), own, other, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("clues", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    config = load_config(args.config, EvalConfig, args.overrides)
    queries = {query.query_id: query for query in read_queries(config.queries)}
    model = load_model(config.model)
    print(
        json.dumps(measure(model, queries, list(read_clues(args.clues)), config.max_prompt_tokens), indent=1)
    )


if __name__ == "__main__":
    main()
