"""What the sample's language model is pre-trained on, without pictures: passages, and questions with named flags.

The questions are built by the same `build_sample` as in training, evaluation and serving; where a picture's visual
tokens will stand, the model reads countries' names as text. Held-out combinations never occur in questions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from gemkr.models.gemkr.prompt import build_sample
from gemkr.sample.corpus import documents
from gemkr.sample.facts import Fact, countries, facts, in_prose
from gemkr.sample.plan import PLACES, held_out_combinations
from gemkr.sample.questions import refer, word_question
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query

CLUE_TOKENS = 10
TEXT_ONLY_SHARE = 0.15
SHORT_SHARE = 0.1
LONG_SHARE = 0.25
NAME_SHARE = 0.3
"""Share of the questions that ask for the country's name only: from them the model learns left and right."""
NAME_QUESTIONS = ("What is the name of {who}?", "Name {who}.", "Which one is {who}?")


@dataclass(frozen=True, slots=True)
class TrainingText:
    """Token ids of one text, and from which one on they are learned."""

    tokens: list[int]
    learn_from: int


class TextMaker:
    """Draws the training texts; `clue(fact)` is what a question about a fact is answered with."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._training_facts = [f for f in facts() if (f.country, f.kind) not in held_out_combinations()]
        self._clues = {fact.doc_id: self._opening(documents()[fact.doc_id]) for fact in facts()}
        self._passages = [self._passage(text) for text in documents().values()]

    def clue(self, fact: Fact) -> list[int]:
        """The long clue of a fact: the first ten tokens of its passage, cut back to the end of a word."""
        return self._clues[fact.doc_id]

    def passages(self, count: int, rng: random.Random) -> list[TrainingText]:
        """Some passages, learned from their first token on."""
        return rng.sample(self._passages, count)

    def questions(self, count: int, rng: random.Random) -> list[TrainingText]:
        """Some questions about named flags (or, for a share, about a country by its name) with their clues."""
        names = round(NAME_SHARE * count)
        texts = [self._fact_question(rng.choice(self._training_facts), rng) for _ in range(count - names)]
        return texts + [self._name_question(rng.choice(countries()), rng) for _ in range(names)]

    def prompts(self, per_fact: int, held_out: bool, seed: int = 0) -> list[tuple[list[int], Fact]]:
        """Prompts without their clues, about the held-out facts or about all others, and the facts they ask for."""
        rng = random.Random(f"exam {held_out} {seed}")
        chosen = [f for f in facts() if ((f.country, f.kind) in held_out_combinations()) == held_out]
        return [(self._prompt(fact, rng, None)[0], fact) for fact in chosen for _ in range(per_fact)]

    def _fact_question(self, fact: Fact, rng: random.Random) -> TrainingText:
        draw = rng.random()
        form = "short" if draw < SHORT_SHARE else "long" if draw < SHORT_SHARE + LONG_SHARE else None
        clue = self._tokenizer.encode(fact.name) if form == "short" else self.clue(fact)
        if rng.random() < TEXT_ONLY_SHARE:
            query = Query("-", word_question(fact.kind, in_prose(fact.country), rng))
            sample = build_sample(query, self._tokenizer, form=form, clue=clue)
            return TrainingText(sample.tokens.tolist(), sample.prompt_length)
        prompt, length = self._prompt(fact, rng, form, clue)
        return TrainingText(prompt, length)

    def _name_question(self, country: str, rng: random.Random) -> TrainingText:
        names, place = _place_flags(country, rng)
        query = Query("-", rng.choice(NAME_QUESTIONS).format(who=refer(place, rng)))
        sample = build_sample(query, self._tokenizer, image=names, clue=self._tokenizer.encode(country))
        return TrainingText(sample.tokens.tolist(), sample.prompt_length)

    def _prompt(
        self, fact: Fact, rng: random.Random, form: str | None, clue: list[int] | None = None
    ) -> tuple[list[int], int]:
        names, place = _place_flags(fact.country, rng)
        query = Query("-", word_question(fact.kind, refer(place, rng), rng))
        sample = build_sample(query, self._tokenizer, image=names, form=form, clue=clue)
        return sample.tokens.tolist(), sample.prompt_length

    def _passage(self, text: str) -> TrainingText:
        tokens = [self._tokenizer.bos_id, *self._tokenizer.encode(text), self._tokenizer.eos_ids[0]]
        return TrainingText(tokens, 1)

    def _opening(self, text: str) -> list[int]:
        tokens, starts = self._tokenizer.encode_with_offsets(text)
        stop = min(CLUE_TOKENS, len(tokens))
        while text[starts[stop] - 1].isalnum() and text[starts[stop]].isalnum():
            stop -= 1
        return tokens[:stop]


def _place_flags(country: str, rng: random.Random) -> tuple[list[str], str]:
    """Names of one to three flags from left to right, one of them the country's, and the name of its place."""
    places = PLACES[rng.choice((1, 2, 2, 3, 3, 3))]
    at = rng.randrange(len(places))
    names = rng.sample([name for name in countries() if name != country], len(places))
    names[at] = country
    return names, places[at]
