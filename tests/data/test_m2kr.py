"""M2KR's ten sets and their `_CN` translations: rows of every shape that its code reads, made up here, into queries and documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_flmr import save_tiny_xlmr
from tiny_pictures import save_pictures

from gemkr.config.files import from_mapping
from gemkr.data.corpus import read_corpus
from gemkr.data.qrels import gold_qrels
from gemkr.data.queries import read_queries
from gemkr.errors import DataError
from gemkr.evaluation.metrics import parse_metrics
from gemkr.evaluation.relevance import make_relevance
from gemkr.training.contrastive.published import EncoderChoice
from gemkr.training.contrastive.run import Material
from gemkr.types import Document, Hit, Query
from gemkr.vision.pictures import PictureFolder

SHOWN = "Provide a brief description of the image and the accompanying title:"
ASKED = "Using the provided image, obtain documents that address the subsequent question:"
QUESTION = {
    "MSMARCO": "what is a kite",
    "OVEN": "what is this?",
    "LLaVA": "Why is he there?",
    "OKVQA": "what sport?",
}
QUESTION |= {"Infoseek": "who designed it?", "EVQA": "How tall does it grow?"}
PICTURES = {
    "WIT": "a1.jpg", "IGLUE": "b2.jpg", "KVQA": "3.jpg", "CC3M": "GCC_train_4.jpg", "MSMARCO": None, "OVEN": "00/oven_5.jpg",
    "LLaVA": "train2014/COCO_6.jpg", "OKVQA": "val2014/COCO_7.jpg", "Infoseek": "oven_8.jpg", "EVQA": "inat/val/9.jpg",
}  # fmt: skip
ANSWERS = {"OKVQA": ["surfing", "surf"], "Infoseek": ["Bofill", "2"], "EVQA": ["2 m"]}
SETS = list(PICTURES)
CHINESE = {
    "question_id": "OKVQA_CN_1",
    "question": "他在做什么运动?",
    "img_path": "val2014/COCO_7.jpg",
    "instruction": "利用提供的图片, 获取回答以下问题的文档\uff1a",
    "answers": ["冲浪"],
    "pos_item_ids": ["OKVQA_CN_p1", "OKVQA_CN_p2"],
    "pos_item_contents": ["冲浪是一项水上运动。", "海浪"],
}


def row_of(name: str) -> dict[str, Any]:
    """Pictures to texts (WIT, IGLUE, KVQA, CC3M) have no question, texts to texts (MSMARCO) no picture, three sets have answers."""
    return {
        "question_id": f"{name}_1",
        "question": QUESTION.get(name, ""),
        "img_path": PICTURES[name],
        "instruction": ASKED if name in QUESTION else SHOWN,
        "answers": ANSWERS.get(name),
        "pos_item_ids": [f"{name}_p1", f"{name}_p2"] if name in ANSWERS else [f"{name}_p1"],
        "pos_item_contents": [f"a passage of {name}"],
    }


def query_of(row: dict[str, Any]) -> Query:
    return Query(
        row["question_id"],
        row["question"],
        row["img_path"],
        row["instruction"],
        answers=tuple(row["answers"] or ()),
        positives=tuple(row["pos_item_ids"]),
    )


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(params=["jsonl", "parquet"])
def end(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def test_rows_of_the_ten_sets(tmp_path: Path, end: str) -> None:
    rows = [row_of(name) for name in SETS]
    found = list(read_queries(write(tmp_path / f"data.{end}", rows)))
    assert found == [query_of(row) for row in rows]
    assert {query.query_id for query in found if not query.question} == {
        "WIT_1",
        "IGLUE_1",
        "KVQA_1",
        "CC3M_1",
    }
    assert {query.query_id for query in found if query.image is None} == {"MSMARCO_1"}
    passages = [
        {"passage_id": f"{name}_p{n}", "passage_content": f"{n} of {name}"} for name in SETS for n in (1, 2)
    ]
    assert list(read_corpus(write(tmp_path / f"passages.{end}", passages))) == [
        Document(row["passage_id"], row["passage_content"]) for row in passages
    ]
    known = {row["passage_id"] for row in passages}
    assert all(judged.keys() <= known for judged in gold_qrels(found).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img_path": None}, "data.jsonl:1: the query 'WIT_1' has neither a question nor a picture"),
        ({"pos_item_ids": "WIT_p1"}, "data.jsonl:1: 'pos_item_ids' must be a list of strings"),
        ({"question_id": None}, "data.jsonl:1: the query has no id"),
    ],
)
def test_rows_of_another_shape(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_queries(write(tmp_path / "data.jsonl", [row_of("WIT") | change])))


def test_pictures_stand_below_a_folder(tmp_path: Path) -> None:
    for place in ("00", "inat/val"):
        save_pictures(tmp_path / place, ["oven_5", "9"])
    pictures = PictureFolder(tmp_path)
    assert pictures.path("00/oven_5.png") == tmp_path / "00" / "oven_5.png"
    assert pictures.open("inat/val/9.png").size == (32, 32)


def test_only_sets_with_answers_have_pseudo_recall(tmp_path: Path) -> None:
    metrics, texts = parse_metrics(["recall@5", "pseudo_recall@5"]), {"d": "SURFING"}.__getitem__
    for name in SETS:
        queries = list(read_queries(write(tmp_path / "data.jsonl", [row_of(name)])))
        make_relevance(metrics[:1], queries=queries)
        if name in ANSWERS:
            make_relevance(metrics, queries=queries, contents=texts)
        else:
            with pytest.raises(DataError, match="looks for answers and none of the 1 queries has any"):
                make_relevance(metrics, queries=queries, contents=texts)


def test_a_chinese_set(tmp_path: Path, end: str) -> None:
    (found,) = read_queries(write(tmp_path / f"data.{end}", [CHINESE]))
    assert found == query_of(CHINESE)
    passages = [
        {"passage_id": i, "passage_content": text}
        for i, text in zip(CHINESE["pos_item_ids"], CHINESE["pos_item_contents"], strict=True)
    ]
    corpus = list(read_corpus(write(tmp_path / f"passages.{end}", passages)))
    assert corpus == [Document("OKVQA_CN_p1", "冲浪是一项水上运动。"), Document("OKVQA_CN_p2", "海浪")]
    texts = {document.doc_id: document.contents for document in corpus}
    run = {found.query_id: [Hit("OKVQA_CN_p2", 2.0), Hit("OKVQA_CN_p1", 1.0)]}
    metrics = parse_metrics(["recall@1", "pseudo_recall@1", "pseudo_recall@2"])
    scores = make_relevance(metrics, queries=[found], contents=texts.__getitem__).score(run)
    assert scores.per_query()[found.query_id] == {"recall@1": 1, "pseudo_recall@1": 0, "pseudo_recall@2": 1}


def test_a_chinese_instruction_is_read_and_not_scored(tmp_path: Path) -> None:
    """Its colon ends it as an English one does, whichever of the two a translation has."""
    characters = sorted(
        set("".join(str(CHINESE[key]) for key in ("question", "instruction"))) - {" ", "\uff1a"}
    )
    save_tiny_xlmr(tmp_path / "xlmr", ["▁", "▁:", "▁.", *characters])
    values = {
        "kind": "preflmr",
        "text": str(tmp_path / "xlmr"),
        "query_marker": "▁.",
        "document_marker": "▁.",
    }
    values |= {"query_tokens": 40, "document_tokens": 40, "mask_padding": False, "width": 8}
    reader = from_mapping({"encoder": values}, EncoderChoice, "t").encoder.build(Material(None)).reader
    instruction, question = CHINESE["instruction"], CHINESE["question"]
    queries = [
        Query("a", question, instruction=instruction),
        Query("b", question, instruction=instruction[:-1] + ":"),
    ]
    read = reader.queries(queries)
    assert read["query_tokens"][0].tolist() == read["query_tokens"][1].tolist()
    words = reader.tokenizer.convert_ids_to_tokens(read["query_tokens"][0])
    scored = [word for word, counts in zip(words, read["scored"][0].tolist(), strict=True) if counts]
    assert "<unk>" not in words
    assert words.count("▁:") == 1
    assert "".join(scored) == f"<s>▁.▁{question}</s>"
