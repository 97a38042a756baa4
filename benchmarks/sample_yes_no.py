"""Does the sample's LLaMA learn to compare a passage with a question? Text alone: countries' names stand in the picture's place.

    python benchmarks/sample_yes_no.py passage_first --negatives kind,flag

Trains all weights on pairs of a right and a wrong passage; every 100 steps prints, for each kind of wrong passage, the area under
the ROC curve on 60 other pairs. `random`: any fact; `kind`: the same kind of fact of a country that no flag shows; `flag`: of another
flag's country; `fact`: another kind of fact of the right country. Figures: rerankers.md.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import torch

from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.inputs import Example
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.gemkr.prompt import Template, build_sample
from gemkr.rerankers.training import unended
from gemkr.sample.corpus import documents
from gemkr.sample.facts import KINDS, Fact, countries, fact_of, facts
from gemkr.sample.plan import PLACES, held_out_combinations
from gemkr.sample.questions import refer, word_question
from gemkr.text.tokenizer import as_written
from gemkr.types import Query

LLM = Path(__file__).resolve().parents[1] / "gemkr" / "sample" / "models" / "llm"
QUESTION = "### Question: {question}\n### Image: <ImageHere>\n### Response:"
TEMPLATES = {
    "question_first": f"{QUESTION} {{passage}}\n### Form:",
    "passage_first": f"{{passage}}\n{QUESTION}",
}
WRONG = ("random", "kind", "flag", "fact")
YES, NO = "well", "not"
"""The vocabulary has no Yes."""


class Pairs:
    """Draws a question with the right passage and a wrong one, as prompts with answers."""

    def __init__(self, model: GeMKR, template: str, limit: int) -> None:
        self._model, self._limit = model, limit
        self._template = Template.parse(TEMPLATES[template])
        self.answers = [as_written(model.tokenizer).encode(word) for word in (YES, NO)]
        self._asked = [f for f in facts() if (f.country, f.kind) not in held_out_combinations()]

    def draw(self, rng: random.Random, wrong: str) -> list[Example]:
        """The right passage, then a wrong one."""
        fact = rng.choice(self._asked)
        places = PLACES[rng.choice((1, 2, 2, 3, 3, 3))]
        at = rng.randrange(len(places))
        names = rng.sample([name for name in countries() if name != fact.country], len(places))
        names[at] = fact.country
        query = Query("-", word_question(fact.kind, refer(places[at], rng), rng))
        shown = (fact, _wrong(wrong, fact, names, rng))
        return [self._example(query, names, *pair) for pair in zip(shown, self.answers, strict=True)]

    def _example(self, query: Query, names: list[str], fact: Fact, answer: list[int]) -> Example:
        sample = build_sample(
            query,
            self._model.tokenizer,
            image=names,
            clue=answer,
            template=self._template,
            max_prompt_tokens=self._limit,
            passage=documents()[fact.doc_id],
        )
        return unended(Example(sample, None, None))


def _wrong(kind: str, fact: Fact, names: list[str], rng: random.Random) -> Fact:
    others = [name for name in names if name != fact.country]
    if kind == "random":
        while (drawn := rng.choice(facts())) == fact:
            pass
        return drawn
    if kind == "fact":
        return fact_of(fact.country, rng.choice([k for k in KINDS if k != fact.kind]))
    if kind == "flag" and others:
        return fact_of(rng.choice(others), fact.kind)
    return fact_of(rng.choice([name for name in countries() if name not in names]), fact.kind)


@torch.no_grad()
def area(model: GeMKR, examples: list[Example], answers: list[list[int]]) -> float:
    """How often a right passage scores above a wrong one, over all pairs of both; they alternate in `examples`."""
    model.eval()
    parts = []
    for start in range(0, len(examples), 40):
        logits = model._logits(model.collate(examples[start : start + 40]), 2)[:, 0]
        parts.append(logits[:, answers[0][0]] - logits[:, answers[1][0]])
    model.train()
    scores = torch.cat(parts)
    return float((scores[0::2, None] > scores[None, 1::2]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("template", choices=TEMPLATES)
    parser.add_argument("--negatives", default=",".join(WRONG))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--limit", type=int, default=40, help="tokens of a prompt")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = load_gemkr(ModelConfig(llm=str(LLM), lora=None, train_llm=True))
    pairs, kinds, rng = Pairs(model, args.template, args.limit), args.negatives.split(","), random.Random(1)
    held_out = {k: [e for i in range(60) for e in pairs.draw(random.Random(f"{k}{i}"), k)] for k in WRONG}
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01, betas=(0.9, 0.99))
    began, losses = time.process_time(), []
    model.train()
    for step in range(args.steps):
        rate = min(1, (step + 1) / 20) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        size = args.batch // 2
        drawn = [pairs.draw(rng, kinds[(step * size + i) % len(kinds)]) for i in range(size)]
        loss = model(model.collate([example for pair in drawn for example in pair]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            areas = {kind: round(area(model, held_out[kind], pairs.answers), 3) for kind in WRONG}
            mean = sum(losses[-50:]) / len(losses[-50:])
            print(step + 1, f"loss {mean:.4f}", f"{time.process_time() - began:.0f} s", areas, flush=True)


if __name__ == "__main__":
    main()
