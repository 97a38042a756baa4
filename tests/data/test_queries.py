"""Query readers: our jsonl, GeMKR's json, OK-VQA's pair of files, and what each refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.okvqa import coco_number, read_captions
from gemkr.data.queries import read_okvqa, read_queries
from gemkr.errors import DataError
from gemkr.types import Query
from gemkr.vision.names import SUFFIXES


def put(path: Path, value: object) -> Path:
    text = "\n".join(json.dumps(row) for row in value) if path.suffix == ".jsonl" else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def test_jsonl_with_all_fields(tmp_path: Path) -> None:
    row = {
        "query_id": 7,
        "question": "What?",
        "image": "COCO_1",
        "caption": None,
        "detections": ["cat"],
        "answers": ["a", 18],
        "positives": ["p", 3],
        "question_type": "Other",
    }
    rows = [row, {"qid": "x", "image": "only"}, {"query_id": "y", "question": "text only", "gold": [0]}]
    assert list(read_queries(put(tmp_path / "q.jsonl", rows))) == [
        Query("7", "What?", "COCO_1", detections=("cat",), answers=("a", "18"), positives=("p", "3")),
        Query("x", image="only"),
        Query("y", "text only", positives=("0",)),
    ]


def test_ms_marco_tsv_and_beir_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "queries.tsv"
    path.write_text('1048578\tcost of "endless pools"\n\n2\t"open\r\n')
    wanted = [Query("1048578", 'cost of "endless pools"'), Query("2", '"open')]
    assert list(read_queries(path)) == wanted
    path.write_text("qid\tquery\n" + path.read_text())
    assert list(read_queries(path)) == wanted
    rows = [{"_id": query.query_id, "text": query.question, "metadata": {}} for query in wanted]
    assert list(read_queries(put(tmp_path / "queries.jsonl", rows))) == wanted
    path.write_text("1\ta\tb\n")
    with pytest.raises(
        DataError, match=r"queries\.tsv:1: the row has 3 columns, queries have 2 \(id, question\)$"
    ):
        list(read_queries(path))
    path.write_text("1\ta\n2\t \n")
    with pytest.raises(
        DataError, match=r"queries\.tsv:2: the query '2' has neither a question nor a picture"
    ):
        list(read_queries(path))


def test_gemkr_json(tmp_path: Path) -> None:
    rows = [
        {
            "input": "What sport? a motorcycle.",
            "output": ["racing", "race"],
            "image": "COCO_val2014_000000297147",
        },
        {"input": "Who?", "output": "me", "image": "images/a.b/COCO_2.jpg"},
        *({"input": "Who?", "output": "me", "image": f"images/COCO_3{suffix}"} for suffix in SUFFIXES),
    ]
    assert list(read_queries(put(tmp_path / "test.json", rows))) == [
        Query("0", "What sport? a motorcycle.", "COCO_val2014_000000297147", answers=("racing", "race")),
        Query("1", "Who?", "COCO_2", answers=("me",)),
        *(Query(str(n), "Who?", "COCO_3", answers=("me",)) for n in range(2, 2 + len(SUFFIXES))),
    ]


def test_okvqa_pair(tmp_path: Path) -> None:
    questions = {
        "data_subtype": "val2014",
        "questions": [{"image_id": 297147, "question": "What sport?", "question_id": 2971475}],
    }
    answers = [{"answer": "race", "raw_answer": r} for r in ("racing", "race", "racing")]
    notes = {"annotations": [{"question_id": 2971475, "image_id": 297147, "answers": answers}]}
    paths = put(tmp_path / "questions.json", questions), put(tmp_path / "annotations.json", notes)
    wanted = Query("2971475", "What sport?", "COCO_val2014_000000297147", answers=("race", "racing"))
    assert list(read_okvqa(*paths)) == [wanted]
    assert next(read_okvqa(paths[0])).answers == ()
    put(paths[1], {"annotations": []})
    with pytest.raises(DataError, match="no answers to question 2971475"):
        list(read_okvqa(*paths))
    with pytest.raises(DataError, match="no list 'questions'"):
        list(read_okvqa(paths[1]))


def test_okvqa_names_and_misfits(tmp_path: Path) -> None:
    row = {"image_id": 297147, "question": "What sport?", "question_id": 2971475}
    questions = put(tmp_path / "OpenEnded_mscoco_val2014_questions.json", {"questions": [row]})
    assert next(read_queries(questions)).image == "COCO_val2014_000000297147"
    assert next(read_okvqa(questions, names="{image:012d}")).image == "000000297147"
    assert next(read_okvqa(questions, names="{split}/{image}")).image == "val2014/297147"
    with pytest.raises(DataError, match=r"'\{picture\}' cannot be filled in"):
        list(read_okvqa(questions, names="{picture}"))
    note = {"question_id": 2971475, "image_id": 5, "answers": [{"raw_answer": "racing", "answer": " "}]}
    notes = put(tmp_path / "notes.json", {"annotations": [note]})
    with pytest.raises(DataError, match="about picture 297147, its annotation about 5"):
        list(read_okvqa(questions, notes))
    put(notes, {"annotations": [{**note, "image_id": 297147}]})
    assert next(read_okvqa(questions, notes)).answers == ("racing",)
    put(notes, {"annotations": [note, note]})
    with pytest.raises(DataError, match="the second of question 2971475"):
        list(read_okvqa(questions, notes))
    put(notes, {"annotations": [{"question_id": 1, "answers": ["racing"]}]})
    with pytest.raises(DataError, match="annotation 0 lacks"):
        list(read_okvqa(questions, notes))


def test_captions_of_coco(tmp_path: Path) -> None:
    rows = [{"image_id": 7, "caption": "a  cat\n"}, {"image_id": 7, "caption": "b"}]
    assert read_captions(put(tmp_path / "a.json", {"annotations": rows})) == {7: "a cat"}
    assert read_captions(put(tmp_path / "b.json", rows)) == {7: "a cat"}
    with pytest.raises(DataError, match="caption 0 lacks"):
        read_captions(put(tmp_path / "c.json", [{"caption": "a"}]))
    with pytest.raises(DataError, match="is no caption file"):
        read_captions(put(tmp_path / "d.json", {"images": []}))
    assert [coco_number(name) for name in ("COCO_val2014_000000297147", "000000000007", "cat")] == [
        297147,
        7,
        None,
    ]


def test_the_command_joins_questions_answers_captions_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image_id": n, "question": f"What is {n}?", "question_id": n} for n in (1, 2)]
    questions = put(tmp_path / "q.json", {"data_subtype": "val2014", "questions": rows})
    notes = [
        {"question_id": n, "image_id": n, "answers": [{"raw_answer": "x", "answer": "y"}]} for n in (1, 2)
    ]
    put(tmp_path / "a.json", {"annotations": notes})
    put(tmp_path / "c.json", [{"image_id": 2, "caption": "a dog"}])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "COCO_val2014_000000000002.jpg").touch()
    out = tmp_path / "out.jsonl"
    given = ["queries", str(questions), "-o", str(out), "--annotations", str(tmp_path / "a.json")]
    assert main([*given, "--captions", str(tmp_path / "c.json"), "--images", str(tmp_path / "images")]) == 0
    assert "1 of 2 queries, 1 pictures" in capsys.readouterr().out
    assert list(read_queries(out)) == [
        Query("2", "What is 2?", "COCO_val2014_000000000002", caption="a dog", answers=("x", "y"))
    ]
    assert main([*given, "--picture-names", "{image:012d}"]) == 0
    assert [q.image for q in read_queries(out)] == ["000000000001", "000000000002"]
    assert (
        main(["queries", str(out), "-o", str(tmp_path / "none.jsonl"), "--images", str(tmp_path / "images")])
        == 1
    )
    assert "none of the pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (
            [{"query_id": "a", "question": " "}],
            r"q\.jsonl:1: the query 'a' has neither a question nor a picture",
        ),
        ([{"query_id": "a", "question": None, "image": ""}], "neither a question nor a picture"),
        ([{"question": "x"}], r"q\.jsonl:1: the query has no id"),
        (
            [{"query_id": "a", "question": "x"}] * 2,
            r"q\.jsonl:2: the query id 'a' already stands at .*q\.jsonl:1",
        ),
        ([{"query_id": "a", "question": ["x"]}], "'question' must be a string"),
        ([{"query_id": "a", "question": "x", "answers": "y"}], "'answers' must be a list"),
        ([{"query_id": "a", "question": "x", "answers": [None]}], "'answers' must be a list"),
        ([{"query_id": "a\udcff", "question": "x"}], r"q\.jsonl:1: the query id is not valid UTF-8"),
        ([{"query_id": "a", "question": "caf\udce9"}], r"q\.jsonl:1: 'question' is not valid UTF-8"),
        (
            [{"query_id": "a", "question": "x", "answers": ["y", "caf\udce9"]}],
            r"q\.jsonl:1: 'answers' is not valid UTF-8",
        ),
        ([{"query_id": "a", "question": "x", "detections": ["\udcff"]}], "'detections' is not valid UTF-8"),
        ([{"query_id": "a", "question": "x", "gold": ["d\udcff"]}], "'gold' is not valid UTF-8"),
        ([["a"]], "a JSON object is needed"),
        ([], "holds no query"),
    ],
)
def test_bad_queries_are_named(tmp_path: Path, rows: list, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        list(read_queries(put(tmp_path / "q.jsonl", rows)))
    assert "\n" not in str(caught.value)


def test_bad_query_files(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("x")
    with pytest.raises(DataError, match="unknown extension"):
        list(read_queries(tmp_path / "q.txt"))
    with pytest.raises(DataError, match="does not exist"):
        list(read_queries(tmp_path / "q.jsonl"))
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(DataError, match="not valid JSON"):
        list(read_queries(tmp_path / "broken.json"))
    (tmp_path / "deep.json").write_text('{"a":' * 100_000)
    with pytest.raises(DataError, match=r"deep\.json .* nested too deep"):
        list(read_queries(tmp_path / "deep.json"))
    with pytest.raises(DataError, match="no GeMKR file"):
        list(read_queries(put(tmp_path / "object.json", {"a": 1})))
    with pytest.raises(DataError, match="entry 0 is no object with 'input'"):
        list(read_queries(put(tmp_path / "other.json", [{"question": 1}])))
    with pytest.raises(DataError, match="entry 0: the query id is not valid UTF-8"):
        list(read_queries(put(tmp_path / "id.json", [{"qid": "\udcff", "input": "x"}])))


def test_okvqa_files_and_captions_that_are_not_utf8(tmp_path: Path) -> None:
    row = {"image_id": 1, "question": "What?", "question_id": 1}
    questions = tmp_path / "val2014.json"
    for change, what in (({"question_id": "\udcff"}, "the query id"), ({"question": "\udcff"}, "'question'")):
        put(questions, {"questions": [{**row, **change}]})
        with pytest.raises(DataError, match=f"question 0: {what} is not valid UTF-8"):
            list(read_okvqa(questions))
    put(questions, {"questions": [row]})
    note = {"question_id": 1, "answers": [{"raw_answer": "caf\udce9", "answer": "cafe"}]}
    with pytest.raises(DataError, match="an answer of annotation 0 is not valid UTF-8"):
        list(read_okvqa(questions, put(tmp_path / "notes.json", {"annotations": [note]})))
    with pytest.raises(DataError, match="caption 0 is not valid UTF-8"):
        read_captions(put(tmp_path / "c.json", [{"image_id": 1, "caption": "\udcff"}]))


@pytest.mark.shared
def test_real_queries(shared_data: Path) -> None:
    queries = list(read_queries(shared_data / "okvqa" / "train.jsonl"))
    assert len(queries) == 9009
    assert sum(query.caption is None for query in queries) == 4590
    assert all(query.image for query in queries)
    first = next(read_queries(shared_data / "qa_passages" / "questions.jsonl.gz"))
    assert first == Query("0", first.question, answers=("Wilhelm Conrad Röntgen",), positives=("0",))


def test_instructions_and_pools_are_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"query_id": 1, "image": "photo", "instruction": "Find the passage.", "pool": "wiki"}\n'
        '{"query_id": 2, "question": "Who?", "instruction": "", "pool": null}\n'
    )
    one, two = read_queries(path)
    assert (one.instruction, one.pool, one.image) == ("Find the passage.", "wiki", "photo")
    assert (two.instruction, two.pool) == (None, None)
    path.write_text('{"query_id": 1, "question": "Who?", "pool": [3]}\n')
    with pytest.raises(DataError, match="pool"):
        list(read_queries(path))
