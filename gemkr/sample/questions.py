"""Questions over scenes: they name a place in the picture, never the country, so only who sees the flag can answer.

Also words the same questions with a country's name, for the language model's pre-training. Draws no pictures.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from gemkr.sample.facts import KINDS, fact_of
from gemkr.sample.plan import Scene, held_out_combinations

QUESTIONS = {
    "capital": (
        "What is the capital of {who}?",
        "Which city is the capital of {who}?",
        "Name the capital city of {who}.",
        "In which city does the government of {who} sit?",
    ),
    "currency": (
        "What is the currency of {who}?",
        "Which currency is used in {who}?",
        "Name the money of {who}.",
        "With what money does one pay in {who}?",
    ),
    "language": (
        "What is the main language of {who}?",
        "Which language do most people speak in {who}?",
        "Name the language of {who}.",
        "What language is spoken in {who}?",
    ),
    "dish": (
        "What is a famous dish of {who}?",
        "Which dish is typical of {who}?",
        "Name a well known food of {who}.",
        "What food do cooks make in {who}?",
    ),
    "landmark": (
        "What is a famous sight of {who}?",
        "Which landmark do visitors see in {who}?",
        "Name a landmark of {who}.",
        "What sight do travellers visit in {who}?",
    ),
    "animal": (
        "Which animal is linked with {who}?",
        "What is the animal of {who}?",
        "Name an animal of {who}.",
        "Which animal stands for {who}?",
    ),
    "mountain": (
        "What is the highest mountain of {who}?",
        "Which mountain is the highest in {who}?",
        "Name the highest peak of {who}.",
        "What is the greatest height in {who}?",
    ),
}
"""Wordings per kind; {who} is an expression of `REFERENCES`, or a country's name."""
REFERENCES = {
    "shown": (
        "the country whose flag is shown",
        "the country of this flag",
        "the country whose flag is seen here",
    ),
    "left": (
        "the country whose flag hangs on the left",
        "the country of the left flag",
        "the country whose flag is on the left side",
    ),
    "middle": (
        "the country whose flag hangs in the middle",
        "the country of the middle flag",
        "the country whose flag is between the others",
    ),
    "right": (
        "the country whose flag hangs on the right",
        "the country of the right flag",
        "the country whose flag is on the right side",
    ),
}
QUESTIONS_PER_SCENE = {1: 3, 2: 4, 3: 4}


def word_question(kind: str, who: str, rng: random.Random) -> str:
    """One wording of the question for a fact of this kind about `who`."""
    return rng.choice(QUESTIONS[kind]).format(who=who)


def refer(place: str, rng: random.Random) -> str:
    """One expression for the country whose flag hangs at a place."""
    return rng.choice(REFERENCES[place])


def make_questions(
    scenes: Iterable[Scene], *, held_out: bool = False, seed: int = 0
) -> list[dict[str, object]]:
    """Query rows over scenes, the same for the same seed.

    By default up to four per scene, none of a held-out combination; with `held_out` one per scene, all of them of
    such a combination. `image` is the scene's id, `positives` holds the one gold passage.
    """
    rows = []
    for scene in scenes:
        rng = random.Random(f"questions {scene.scene_id} {held_out} {seed}")
        pool = [
            (place, country, kind)
            for place, country in zip(scene.places, scene.flags, strict=True)
            for kind in KINDS
            if ((country, kind) in held_out_combinations()) == held_out
        ]
        count = 1 if held_out else QUESTIONS_PER_SCENE[len(scene.flags)]
        for number, (place, country, kind) in enumerate(rng.sample(pool, count)):
            fact = fact_of(country, kind)
            rows.append(
                {
                    "query_id": f"{scene.scene_id}-{'h' if held_out else 'q'}{number}",
                    "question": word_question(kind, refer(place, rng), rng),
                    "image": scene.scene_id,
                    "caption": None,
                    "answers": [fact.name],
                    "positives": [fact.doc_id],
                }
            )
    return rows
