"""What a reader is shown of a passage: the words around its likeliest clue, in training and in reading alike."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_reading import HOMES, evaluation, training, write_material

from gemkr.answering.config import ReaderDataConfig
from gemkr.answering.material import read_material
from gemkr.answering.shown import MARK, shown_text
from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.data.corpus import read_corpus
from gemkr.data.runs import load_run
from gemkr.evaluation.config import EvalConfig
from gemkr.text.clue_places import clue_place
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training.finetune import not_built
from gemkr.types import Query

TEXT = "Amtrak runs the Chief. The railway, named after Santa Fe, was chartered in Kansas."


@pytest.mark.parametrize(
    ("clues", "window", "shown"),
    [
        (["santa fe"], 2, "named after **Santa Fe**, was"),
        (["santa fe"], 5, "Chief. The railway, named after **Santa Fe**, was chartered in Kansas."),
        (["Denver", "Kansas", "Santa Fe"], 1, "in **Kansas**."),
        (["rail"], 1, "The **rail**way,"),
        (["rail", "in"], 1, "chartered **in** Kansas."),
        ([" Amtrak "], 1, "**Amtrak** runs"),
        (["Denver"], 2, TEXT),
        ([""], 2, TEXT),
        ([], 2, TEXT),
        (["santa fe"], None, TEXT),
    ],
)
def test_words_around_the_first_clue_that_occurs(clues: list[str], window: int | None, shown: str) -> None:
    assert shown_text(TEXT, clues, window) == shown


@given(st.data(), st.text("aBé \n,.", max_size=60), st.integers(1, 4))
def test_what_is_shown_is_a_piece_of_the_text_around_the_clue(
    data: st.DataObject, text: str, window: int
) -> None:
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    clue = text[start:stop]
    place = clue_place(text, [clue])
    shown = shown_text(text, [clue], window)
    if not clue.strip():
        assert shown == text
        return
    assert place is not None
    before, found, after = shown.split(MARK)
    assert found == text[place[0] : place[1]]
    assert " ".join(found.casefold().split()) == " ".join(clue.casefold().split())
    assert text[: place[0]].endswith(before)
    assert text[place[1] :].startswith(after)
    assert len(before.split()) == min(window, len(text[: place[0]].split()))
    assert len(after.split()) == min(window, len(text[place[1] :].split()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Material with a run whose passages have clues but for those of one question, and a reader that learned them for a step."""
    folder = write_material(tmp_path_factory.mktemp("shown"))
    assert main(["retrieve", str(evaluation(folder, queries="train.jsonl", output="run"))]) == 0
    rows = [json.loads(line) for line in (folder / "run" / "bm25" / "run.jsonl").read_text().splitlines()]
    for row in rows[1:]:
        for hit in row["hits"]:
            hit["evidence"] = [{"text": "home", "log_prob": -1.0, "start": 1, "stop": 2}]
    (folder / "clues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "queries": "train.jsonl",
        "run": "clues.jsonl",
        "corpus": "corpus.csv",
        "passages": 1,
        "window": 1,
        "closed_book": False,
    }
    assert main(["train-reader", str(training(folder, data=data, epochs=1))]) == 0
    return folder


def test_a_reader_reads_passages_as_it_has_learned_them(folder: Path) -> None:
    data = ReaderDataConfig(
        queries=str(folder / "train.jsonl"),
        run=str(folder / "clues.jsonl"),
        corpus=str(folder / "corpus.csv"),
        window=1,
        passages=1,
        closed_book=False,
    )
    learned = [
        sample.passage
        for sample in read_material(data, data.queries, not_built, load_tokenizer(folder / "llm")).samples
    ]
    assert learned[0] is not None
    assert MARK not in learned[0]
    assert all(passage.split()[1] == "**home**" for passage in learned[1:])

    config = load_config(evaluation(folder, queries="train.jsonl"), EvalConfig)
    sources = config.sources()
    reader, texts = config.answer.reader.build(sources), []
    prompts = reader.prompts

    def watched(query: Query, text: str | None) -> Any:
        texts.append(text)
        return prompts(query, text)

    reader.prompts = watched
    run = load_run(folder / "clues.jsonl")
    documents = {document.doc_id: document for document in read_corpus(folder / "corpus.csv")}
    hits = [
        [replace(hit, document=documents[hit.doc_id]) for hit in run[q.query_id][:1]] for q in sources.queries
    ]
    answers = list(reader.answer(zip(sources.queries, hits, strict=True)))
    assert texts == learned
    assert [answer.doc_id for answer in answers] == [own[0].doc_id for own in hits]


@pytest.mark.parametrize("match", ["exact", "word"])
def test_marks_hide_no_answer(folder: Path, match: str) -> None:
    rows = [json.loads(line) for line in (folder / "clues.jsonl").read_text().splitlines()]
    number = int(rows[1]["hits"][0]["doc_id"][1:])
    animal, place = list(HOMES.items())[number]
    rows[1]["hits"][0]["evidence"][0]["text"] = place[:2]  # a clue inside a word
    (folder / "half.jsonl").write_text(json.dumps(rows[1]) + "\n")
    query = {"query_id": rows[1]["query_id"], "question": f"home of {animal}", "answers": ["nowhere", place]}
    (folder / "half_queries.jsonl").write_text(json.dumps(query) + "\n")
    data = ReaderDataConfig(
        queries=str(folder / "half_queries.jsonl"),
        run=str(folder / "half.jsonl"),
        corpus=str(folder / "corpus.csv"),
        window=1,
        passages=1,
        closed_book=False,
        match=match,
    )
    tokenizer = load_tokenizer(folder / "llm")
    (sample,) = read_material(data, data.queries, not_built, tokenizer).samples
    assert sample.passage == f"home **{place[:2]}**{place[2:]}"
    assert sample.answers == (tuple(tokenizer.encode(place)),)
