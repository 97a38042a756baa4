"""From a query to token ids: the one function that builds the sample for training, evaluation and serving.

The default template's wording lives in `templates/gemkr.txt`. This file knows tokenizers only by their `encode`, and
pictures and a text encoder only by how many positions they take; it knows no tensors and no model. Parts are encoded apart and
joined: `Tokenizer.encode` reads every text as if a space stood before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gemkr.config.paths import is_name
from gemkr.errors import ModelError
from gemkr.models.gemkr.fields import Fields, fit, shown_fields
from gemkr.text.tokenizer import Tokenizer, as_written
from gemkr.types import Query

TEMPLATES = Path(__file__).resolve().parent / "templates"
"""Templates that the package ships, which go by name."""
IMAGE_MARK = "<ImageHere>"
GLUED = "\\+"
"""Begins a section that follows the one before it without a space."""
IGNORED_LABEL = -100
"""What torch's cross entropy leaves out by default."""
SEPARATOR, FULL_STOP = ",", "."
"""Visual tokens of regions are enumerated as `<r1> , <r2> .`, the way a language model has read lists."""
_FIELD = re.compile(r"\{(question|caption|detections|form|passage)\}")


@dataclass(frozen=True, slots=True)
class VisualSlot:
    """How many visual tokens a picture takes: `whole` for the picture, then one for each of its regions."""

    whole: int
    regions: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One query as tokens. `tokens` is int64[T]: prompt, then the clue and EOS if a clue was given.

    `visual` (int64[V], ascending) are the positions that visual tokens take, in the order whole picture, then
    regions in reading order, `read` (int64[E], ascending) those of a text encoder's states; `tokens` holds 0 there, to
    be ignored. `tokens[prompt_length:]` is what is learned.
    """

    query_id: str
    tokens: np.ndarray
    visual: np.ndarray
    read: np.ndarray
    prompt_length: int

    @property
    def labels(self) -> np.ndarray:
        """int64[T]: the clue's tokens and EOS at their own positions, IGNORED_LABEL everywhere else."""
        labels = self.tokens.copy()
        labels[: self.prompt_length] = IGNORED_LABEL
        return labels


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt's sections, one per line of its file; they are joined by one space, which `\\+` at a section's beginning leaves out, and
    `\\n` in them is a line's end.

    A section that names a field (`{question} {caption} {detections} {form} {passage}` or `<ImageHere>`) is left out
    when that field is empty, so that one template serves text-only, image-only and full queries.
    """

    sections: tuple[str, ...]

    @staticmethod
    def parse(text: str, where: str = "the template") -> Template:
        """Read a template; ModelError unless it has a question and `<ImageHere>` exactly once."""
        sections = tuple(line.strip() for line in text.splitlines() if line.strip())
        for mark in ("{question}", IMAGE_MARK):
            if sum(section.count(mark) for section in sections) != 1:
                raise ModelError(f"{where} must hold {mark} exactly once")
        return Template(sections)

    @staticmethod
    def load(path: str | Path) -> Template:
        """Read a template file of one's own (UTF-8), or one that goes by name; ModelError when it is missing or unfit."""
        path = template_file(path)
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise ModelError(f"the prompt template {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ModelError(f"the prompt template {path} is not UTF-8 text; save it as UTF-8") from error
        return Template.parse(text, f"the prompt template {path}")

    def render(self, fields: Fields, image: bool) -> tuple[str, str | None]:
        """The prompt's text before the image slot and after it; (text, None) when there is no image."""
        halves = ["", ""]
        seen = 0
        for section in self.sections:
            if any(not fields[name] for name in _FIELD.findall(section)):
                continue
            before, mark, after = (
                _FIELD.sub(lambda found: fields[found[1]], part.strip().replace("\\n", "\n"))
                for part in section.removeprefix(GLUED).partition(IMAGE_MARK)
            )
            if mark and not image:
                continue
            space = " " if halves[seen] and before and not section.startswith(GLUED) else ""
            halves[seen] += space + before
            if mark:
                seen, halves[1] = 1, after
        return halves[0], halves[1] if image else None


def template_file(given: str | Path) -> Path:
    """The file of a template: a bare name is that of one in `templates/`, all else a path; ModelError for an unknown name."""
    if not is_name(str(given)):
        return Path(given)
    path = TEMPLATES / f"{given}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in TEMPLATES.glob("*.txt")))
        raise ModelError(
            f"no prompt template is called {str(given)!r}; there are {known}, and a file of your own goes by its path, such as "
            "mine.txt"
        )
    return path


@lru_cache(maxsize=1)
def default_template() -> Template:
    """The template that a prompt has unless configured (`templates/gemkr.txt`)."""
    return Template.load("gemkr")


def build_sample(
    query: Query,
    tokenizer: Tokenizer,
    *,
    image: VisualSlot | Sequence[str] | None = None,
    clue: Sequence[int] | None = None,
    form: str | None = None,
    caption: bool = False,
    detections: bool = False,
    template: Template | None = None,
    max_prompt_tokens: int | None = None,
    read: int = 0,
    passage: str | None = None,
) -> Sample:
    """The sample of one query: BOS, prompt and, when `clue` is given, its token ids (never re-tokenized) and EOS.

    `image` is the number of visual tokens, or a list of names that stand in the slot as plain text
    (`["France", "Japan"]` reads `France , Japan .`), or None for no picture. `form` requests a clue form
    (`short`, `long`); `caption` and `detections` put these fields of the query into the text, `passage` a text to read.
    A prompt longer than `max_prompt_tokens` loses words at the end of its passage, then detections, then caption, then
    question; the `read` positions for a text encoder's states, right after BOS, do not count.

    Raises DataError for a query without anything to answer, ModelError when the template leaves no room for it.
    """
    fields = shown_fields(
        query,
        form=form,
        caption=caption,
        detections=detections,
        passage=passage,
        picture=image is not None,
    )
    template = template or default_template()
    prompt, visual = fit(
        fields,
        lambda fields: _encode(template.render(fields, image is not None), image, tokenizer),
        lambda encoded: len(encoded[0]),
        max_prompt_tokens,
        query.query_id,
        picture=image is not None,
    )
    start = int(tokenizer.bos_id is not None)
    prompt[start:start] = [0] * read
    visual = [position + read for position in visual]
    tokens = prompt if clue is None else [*prompt, *(int(token) for token in clue), tokenizer.eos_ids[0]]
    return Sample(
        query.query_id,
        np.array(tokens, np.int64),
        np.array(visual, np.int64),
        np.arange(start, start + read),
        len(prompt),
    )


def _encode(
    halves: tuple[str, str | None], image: VisualSlot | Sequence[str] | None, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """Token ids with BOS, and the positions of the visual tokens. The template's own line ends stay."""
    tokenizer = as_written(tokenizer)
    tokens = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    before, after = halves
    if not isinstance(image, VisualSlot):
        names = f"{f' {SEPARATOR} '.join(image)} {FULL_STOP}" if image else ""
        text = " ".join(part for part in (before, names, after) if part)
        return [*tokens, *tokenizer.encode(text)], []
    tokens += tokenizer.encode(before)
    visual: list[int] = []
    for _ in range(image.whole):
        visual.append(len(tokens))
        tokens.append(0)
    for i in range(image.regions):
        visual.append(len(tokens))
        tokens.append(0)
        tokens += tokenizer.encode(SEPARATOR if i + 1 < image.regions else FULL_STOP)
    if after:
        tokens += tokenizer.encode(after)
    return tokens, visual
