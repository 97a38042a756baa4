"""Which flags hang in which scene, and which scenes and question kinds are held out. Draws no pictures.

Everything follows from one seed. Scenes are split as wholes; a combination of country and kind that is held out is
asked in no training, development or main test question.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from gemkr.sample.facts import KINDS, countries

SCENES = {"train": 800, "dev": 120, "test": 240}
LARGE_SHARE = 0.35
FLAG_COUNTS = (1, 2, 2, 3, 3)
"""How many flags a scene of small flags has; each entry is equally likely."""
PLACES = {1: ("shown",), 2: ("left", "right"), 3: ("left", "middle", "right")}
"""What a flag's place is called, by the number of flags, from left to right."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene before it is drawn: flags from left to right; `large` when one flag fills much of the picture."""

    scene_id: str
    split: str
    flags: tuple[str, ...]
    large: bool

    @property
    def places(self) -> tuple[str, ...]:
        """The name of each flag's place."""
        return PLACES[len(self.flags)]


def plan(seed: int = 0, counts: Mapping[str, int] = SCENES, large_share: float = LARGE_SHARE) -> list[Scene]:
    """All scenes of the sample (or of other `counts` by split), every country about equally often in every split."""
    scenes = []
    for split, count in counts.items():
        rng = random.Random(f"plan {split} {seed}")
        small, large = _deck(rng), _deck(rng)
        for number in range(count):
            is_large = rng.random() < large_share
            wanted = 1 if is_large else rng.choice(FLAG_COUNTS)
            flags: list[str] = []
            while len(flags) < wanted:
                name = next(large if is_large else small)
                if name not in flags:
                    flags.append(name)
            scenes.append(Scene(f"{split}-{number:04d}", split, tuple(flags), is_large))
    return scenes


@lru_cache(maxsize=1)
def held_out_combinations() -> frozenset[tuple[str, str]]:
    """One (country, kind) for each country that is never asked in training; kinds about equally often."""
    names = list(countries())
    random.Random("held out").shuffle(names)
    return frozenset((name, KINDS[i % len(KINDS)]) for i, name in enumerate(names))


def _deck(rng: random.Random) -> Iterator[str]:
    """All countries in random order, again and again."""
    while True:
        names = list(countries())
        rng.shuffle(names)
        yield from names
