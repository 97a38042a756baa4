"""The files of OK-VQA, whose pictures are COCO's, and COCO's captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemkr.data.values import clean_text, load_json
from gemkr.errors import DataError
from gemkr.types import Query

COCO_2014_NAMES = "COCO_{split}_{image:012d}"
"""How COCO's 2014 release names its pictures; in the 2017 release it is `{image:012d}`."""


def okvqa_queries(
    questions: Path, data: Any, annotations: Path | None, names: str
) -> Iterator[tuple[str, Query]]:
    """(file and entry, query) of the question file `questions`, whose contents are `data`; answers from the file `annotations`.

    `names`: see `queries.read_okvqa`. Raises DataError for a file of another form, and at an entry that is broken.
    """
    if not isinstance(data, dict) or not isinstance(data.get("questions"), list):
        raise DataError(f"{questions} is no OK-VQA question file: it holds no list 'questions'")
    split = str(data.get("data_subtype") or "") or _split_of(questions)
    notes = None if annotations is None else _annotations(annotations)
    return _placed(questions, data["questions"], split, notes, names)


def _placed(
    path: Path,
    rows: list[Any],
    split: str,
    notes: dict[str, tuple[int | None, tuple[str, ...]]] | None,
    names: str,
) -> Iterator[tuple[str, Query]]:
    for number, row in enumerate(rows):
        where = f"{path}: question {number}"
        try:
            query_id, image, question = str(row["question_id"]), int(row["image_id"]), str(row["question"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where} lacks 'question_id', 'image_id' or 'question' ({error!r})") from error
        clean_text(question, "'question'", where)
        if notes is not None and query_id not in notes:
            raise DataError(
                f"{where}: the annotations hold no answers to question {query_id}; give the file of its split"
            )
        of, answers = (None, ()) if notes is None else notes[query_id]
        if of is not None and of != image:
            raise DataError(
                f"{where}: question {query_id} is about picture {image}, its annotation about {of}; give the files of "
                "one release"
            )
        try:
            name = names.format(split=split, image=image)
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(
                f"the picture names {names!r} cannot be filled in ({error!r}); use {{split}} and {{image}}, such as "
                f"{COCO_2014_NAMES!r}"
            ) from error
        yield where, Query(query_id, question, name, answers=answers)


def _annotations(path: Path) -> dict[str, tuple[int | None, tuple[str, ...]]]:
    """Question id -> the picture it says (if it does) and the answers, most votes first."""
    data = load_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise DataError(f"{path} is no OK-VQA annotation file: it holds no list 'annotations'")
    notes: dict[str, tuple[int | None, tuple[str, ...]]] = {}
    for number, row in enumerate(data["annotations"]):
        try:
            forms = [a.get(form) for a in row["answers"] for form in ("raw_answer", "answer")]
            given = [str(form) for form in forms if form is not None]
            votes = Counter(answer for answer in given if answer.strip())
            image = None if row.get("image_id") is None else int(row["image_id"])
            query_id = str(row["question_id"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{path}: annotation {number} lacks 'question_id' or 'answers' ({error!r})"
            ) from error
        for answer in votes:
            clean_text(answer, f"an answer of annotation {number}", path)
        if query_id in notes:
            raise DataError(f"{path}: annotation {number} is the second of question {query_id}; keep one")
        notes[query_id] = image, tuple(answer for answer, _ in votes.most_common())
    return notes


def _split_of(path: Path) -> str:
    for split in ("train2014", "val2014", "test2015"):
        if split in path.name:
            return split
    raise DataError(
        f"{path} does not say which COCO split its pictures are of; add 'data_subtype', such as 'val2014'"
    )


def read_captions(path: str | Path) -> dict[int, str]:
    """COCO number -> caption, the first of each picture, from COCO's caption annotations or a list of results.

    Both hold objects with `image_id` and `caption`. Raises DataError for a file of another form.
    """
    data = load_json(Path(path))
    rows = data.get("annotations") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not rows:
        raise DataError(
            f"{path} is no caption file: a list of objects with 'image_id' and 'caption' is needed"
        )
    captions: dict[int, str] = {}
    for number, row in enumerate(rows):
        try:
            caption = clean_text(" ".join(row["caption"].split()), f"caption {number}", path)
            captions.setdefault(int(row["image_id"]), caption)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: caption {number} lacks 'image_id' or 'caption' ({error!r})") from error
    return captions


def coco_number(image: str) -> int | None:
    """The number at the end of a COCO image id, in any of its forms; None for a name without one."""
    found = re.search(r"(\d+)$", image)
    return int(found[1]) if found else None
