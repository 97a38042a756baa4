"""The fields of a query that a prompt shows, and leaving out words until the prompt fits. Knows no template and no tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from gemkr.data.clues import FORMS
from gemkr.errors import DataError, ModelError
from gemkr.text.normalize import normalize
from gemkr.types import Query

Fields = Mapping[str, str]
"""What stands in a template's places: question, caption, detections, form, passage; "" for none."""
PICTURE = "\ufffc"
"""Where a picture stands in the text of a passage (Unicode's object replacement character)."""
SHORTENED_FIRST = ("detections", "caption", "question")

T = TypeVar("T")


def shown_fields(
    query: Query, *, form: str | None, caption: bool, detections: bool, passage: str | None, picture: bool
) -> Fields:
    """The fields of a query; `picture`: its picture is shown beside them.

    Raises DataError for a query without anything to answer, ModelError for an unknown form.
    """
    if form is not None and form not in FORMS:
        raise ModelError(f"the clue form {form!r} is unknown; use {' or '.join(FORMS)}")
    fields = {
        "question": normalize(query.question),
        "caption": normalize(query.caption or "") if caption else "",
        "detections": normalize(" , ".join(query.detections)) if detections else "",
        "form": form or "",
        "passage": " ".join((passage or "").split()),
    }
    if not picture and not any(fields[name] for name in SHORTENED_FIRST):
        raise DataError(
            f"the query {query.query_id!r} has no question and no picture that the model could see; give it one of them"
        )
    return fields


def fit(
    fields: Fields,
    encode: Callable[[Fields], T],
    size: Callable[[T], int],
    most: int | None,
    query_id: str,
    *,
    picture: bool,
) -> T:
    """What `encode` makes of the fields, which lose words until its `size` is at most `most` tokens: at the end of the passage,
    then of detections, caption and question. Raises ModelError when the template leaves no room for them."""
    found = encode(fields)
    if most is None or size(found) <= most:
        return found
    fields = dict(fields)
    if fields["passage"]:
        fields["passage"] = _fitting(fields, lambda fields: size(encode(fields)) <= most)
        found = encode(fields)
    while size(found) > most:
        name = next((name for name in SHORTENED_FIRST if fields[name]), None)
        if name is None:
            raise ModelError(
                f"the prompt of query {query_id!r} has {size(found)} tokens without any text of the query, "
                f"allowed are {most}; raise max_prompt_tokens or shorten the template"
            )
        fields[name] = " ".join(fields[name].split()[:-1])
        if not picture and not any(fields[name] for name in SHORTENED_FIRST):
            raise ModelError(
                f"a prompt of {most} tokens has no room for a word of the query {query_id!r} beside the "
                "template's; raise max_prompt_tokens or shorten the template"
            )
        found = encode(fields)
    return found


def _fitting(fields: Fields, fits: Callable[[Fields], bool]) -> str:
    """As many of the passage's first words as there is room for. The next one is cut if it is longer than all of them: many languages
    are written without spaces."""
    words = fields["passage"].split()
    kept = words[: _most(len(words), lambda count: fits({**fields, "passage": " ".join(words[:count])}))]
    shown, word = " ".join(kept), words[len(kept)]
    if len(word) <= len(shown):
        return shown
    begun = f"{shown} " if shown else ""
    count = _most(len(word), lambda count: fits({**fields, "passage": begun + word[:count]}))
    return f"{begun}{word[:count]}".strip()


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The largest number below `count` that fits, found by halving; 0 if none does."""
    known, over = 0, count
    while over - known > 1:
        middle = (known + over) // 2
        known, over = (middle, over) if fits(middle) else (known, middle)
    return known
