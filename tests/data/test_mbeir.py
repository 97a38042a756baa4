"""M-BEIR and M2KR: micro files in, documents, queries and instructions out; what does not fit together is named by file and line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.cli import main
from gemkr.data.corpus import read_corpus
from gemkr.data.documents import DocumentStore
from gemkr.data.mbeir import InstructionProvider, modality
from gemkr.data.qrels import read_qrels
from gemkr.data.queries import read_queries
from gemkr.data.trec import read_run
from gemkr.errors import ConfigError, DataError
from gemkr.training.contrastive.config import NegativesConfig
from gemkr.training.contrastive.data import make_pairs
from gemkr.types import Document, Query

HEADER = "query_modality\tcand_modality\tdataset_name\tdataset_id\tprompt_1\tprompt_2\tprompt_3\n"
ROWS = (
    "text\timage\tMSCOCO\t9\tFind the picture.\tShow it.\tWhich photo?\n"
    "image\ttext\tMSCOCO\t9\tDescribe it.\tCaption?\n"
    "image,text\timage,text\tOVEN\t5\tFind its article.\n"
)


def put(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def micro(tmp_path: Path) -> Path:
    """Ten candidates and ten queries as M-BEIR publishes them: four from text to image, three back, three of both."""
    pool = []
    for n in range(10):
        kind = "image" if n < 4 else "text" if n < 7 else "image,text"
        pool.append(
            {
                "did": f"9:{n}" if n < 7 else f"5:{n}",
                "txt": None if kind == "image" else f"text {n}",
                "img_path": None if kind == "text" else f"mbeir_images/c/{n}.jpg",
                "modality": kind,
                "src_content": None,
            }
        )
    queries = []
    for n in range(10):
        kind = "text" if n < 4 else "image" if n < 7 else "image,text"
        queries.append(
            {
                "qid": f"9:{n}" if n < 7 else f"5:{n}",
                "query_txt": None if kind == "image" else f"question {n}",
                "query_img_path": None if kind == "text" else f"mbeir_images/q/{n}.jpg",
                "query_modality": kind,
                "query_src_content": "{}",
                "pos_cand_list": [pool[n]["did"]],
                "neg_cand_list": [],
                "task_id": 0 if n < 4 else 3 if n < 7 else 8,
            }
        )
    put(tmp_path / "pool.jsonl", pool)
    put(tmp_path / "queries.jsonl", queries)
    (tmp_path / "instructions.tsv").write_text(HEADER + ROWS)
    (tmp_path / "qrels.txt").write_text(
        "".join(f"{q['qid']} 0 {q['pos_cand_list'][0]} 1 {q['task_id']}\n" for q in queries)
    )
    return tmp_path


def make(folder: Path, *arguments: str) -> int:
    return main(
        ["queries", str(folder / "queries.jsonl"), "-o", str(folder / "out.jsonl")]
        + [str(folder / word) if (folder / word).exists() else word for word in arguments]
    )


def test_round_trip(micro: Path) -> None:
    documents = list(read_corpus(micro / "pool.jsonl"))
    assert documents[0] == Document("9:0", image="mbeir_images/c/0.jpg")
    assert documents[4] == Document("9:4", "text 4")
    assert documents[9] == Document("5:9", "text 9", image="mbeir_images/c/9.jpg")
    queries = list(read_queries(micro / "queries.jsonl"))
    assert queries[0] == Query("9:0", "question 0", positives=("9:0",))
    assert queries[5] == Query("9:5", image="mbeir_images/q/5.jpg", positives=("9:5",))
    assert make(micro, "--instructions", "instructions.tsv", "--candidates", "pool.jsonl", "--pool", "p") == 0
    again = list(read_queries(micro / "out.jsonl"))
    wanted = ["Find the picture."] * 4 + ["Describe it."] * 3 + ["Find its article."] * 3
    assert [query.instruction for query in again] == wanted
    assert {query.pool for query in again} == {"p"}
    assert [(q.query_id, q.question, q.image, q.positives) for q in again] == [
        (q.query_id, q.question, q.image, q.positives) for q in queries
    ]


def test_qrels_give_the_gold_documents(micro: Path) -> None:
    rows = [json.loads(line) for line in (micro / "queries.jsonl").read_text().splitlines()]
    put(micro / "queries.jsonl", [{**row, "pos_cand_list": []} for row in rows])
    assert make(micro, "--qrels", "qrels.txt", "--candidates", "pool.jsonl") == 0
    judged = read_qrels(micro / "qrels.txt")
    assert {q.query_id: dict.fromkeys(q.positives, 1) for q in read_queries(micro / "out.jsonl")} == judged


def test_lists_of_hard_negatives_become_a_run(micro: Path, capsys: pytest.CaptureFixture) -> None:
    """As UniIR's mining leaves them, in order and repeated to fill a number up; training reads them as those of any run."""
    rows = [json.loads(line) for line in (micro / "queries.jsonl").read_text().splitlines()]
    rows[1]["neg_cand_list"], rows[8]["neg_cand_list"] = ["9:3", "9:0", "9:3", "9:1"], ["5:9"]
    put(micro / "queries.jsonl", rows)
    words = ["--negatives", str(micro / "negatives.trec"), "--candidates", "pool.jsonl"]
    assert make(micro, *words) == 0
    run = read_run(micro / "negatives.trec")
    found = {query: [hit.doc_id for hit in hits] for query, hits in run.items()}
    assert found == {"9:1": ["9:3", "9:0", "9:1"], "5:8": ["5:9"]}
    store = DocumentStore.open(micro / "pool.jsonl")
    config = NegativesConfig(run="negatives.trec", per_query=2)
    pairs = make_pairs(list(read_queries(micro / "out.jsonl")), store, run, config, "here")
    assert {p.query.query_id: p.negatives for p in pairs if p.negatives} == {"9:1": (3, 0), "5:8": (9,)}
    capsys.readouterr()
    for lists, message in (
        (["9:1", "9:99"], ":2: the document '9:99' is not among the candidates"),
        (["9 1"], ":2: the document id '9 1' holds white space"),
        ("9:1", ":2: 'neg_cand_list' must be a list of strings"),
        ([], "no query of .*queries.jsonl has a hard negative under 'neg_cand_list'; leave --negatives out"),
    ):
        changed = [{**row, "neg_cand_list": lists if n == 1 else []} for n, row in enumerate(rows)]
        put(micro / "queries.jsonl", changed)
        assert make(micro, *words) == 1
        assert re.search(message, capsys.readouterr().err)


def test_choices_of_instructions(micro: Path) -> None:
    query = Query("9:1", "a question")

    def choose(choice: str, of: Query = query) -> str:
        return InstructionProvider(micro / "instructions.tsv", choice).instruction(of, "image", "here")

    assert choose("index:2") == "Which photo?"
    drawn = [choose("random:7", Query(f"9:{n}", "q")) for n in range(50)]
    assert set(drawn) == {"Find the picture.", "Show it.", "Which photo?"}
    assert drawn == [choose("random:7", Query(f"9:{n}", "q")) for n in range(50)]
    assert drawn != [choose("random:8", Query(f"9:{n}", "q")) for n in range(50)]
    assert make(micro, "--instructions", "instructions.tsv", "--instruction", "none") == 0
    assert not any(query.instruction for query in read_queries(micro / "out.jsonl"))
    with pytest.raises(DataError, match=r"tsv:2: the row has 3 prompts, the index 3 \(from 0\)"):
        choose("index:3")
    for wrong in ("last", "index", "index:x", "first:1", "random:-1"):
        with pytest.raises(ConfigError, match="the choice of instructions"):
            choose(wrong)


@given(
    name=st.text(st.characters(exclude_categories=("Cs", "Z", "Cc")), min_size=1).filter(
        lambda s: ":" not in s
    )
)
def test_data_sets_may_have_any_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / "instructions.tsv"
    path.write_text(f"header\ntext\ttext\tmine\t{name}\tFind it.\n", encoding="utf-8")
    query = Query(f"{name}:a-b", "what")
    assert InstructionProvider(path).instruction(query, modality(query), "here") == "Find it."


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("text\timage\tMSCOCO\t9\n", ":5: the row has no prompt"),
        ("text\tsound\tMSCOCO\t9\tFind.\n", ":5: the modalities 'text' and 'sound' must be among"),
        ("text\timage\tMSCOCO\t9\tFind.\n", ":5: data set '9' from text to image already stands in line 2"),
    ],
)
def test_broken_tables_of_instructions(micro: Path, row: str, message: str) -> None:
    with (micro / "instructions.tsv").open("a") as stream:
        stream.write(row)
    with pytest.raises(DataError, match="tsv" + message):
        InstructionProvider(micro / "instructions.tsv")


def test_what_does_not_fit_is_named(micro: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(message: str, *arguments: str) -> None:
        capsys.readouterr()
        assert make(micro, *arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1

    instructions = ("--instructions", "instructions.tsv")
    fails("give the documents with --candidates, or --target", *instructions)
    fails(
        "queries.jsonl:1: the query '9:0' goes from text to text in data set '9', for which",
        *instructions,
        "--target",
        "text",
    )
    fails("give both", "--candidate-images", str(micro))
    with (micro / "qrels.txt").open("a") as stream:
        stream.write("9:0 0 9:77 0 0\n")
    fails(
        "qrels.txt:11: the document '9:77' is not among", "--qrels", "qrels.txt", "--candidates", "pool.jsonl"
    )
    with (micro / "qrels.txt").open("a") as stream:
        stream.write("8:1 0 9:1 1 0\n")
    fails("qrels.txt:12: the query '8:1' is judged, but", "--qrels", "qrels.txt")
    images = micro / "mbeir_images" / "c"
    images.mkdir(parents=True)
    for n in (0, 1, 3):
        (images / f"{n}.jpg").touch()
    fails(
        "pool.jsonl:3: document '9:2': the picture 'mbeir_images/c/2.jpg' is not in",
        "--candidates",
        "pool.jsonl",
        "--candidate-images",
        str(micro),
    )
    rows = [json.loads(line) for line in (micro / "queries.jsonl").read_text().splitlines()]
    put(micro / "queries.jsonl", [{**rows[0], "pos_cand_list": ["9:x"]}])
    fails("queries.jsonl:1: the document '9:x' is not among", "--candidates", "pool.jsonl")
    put(micro / "queries.jsonl", [{**rows[0], "pos_cand_list": []}])
    fails(
        "queries.jsonl:1: the query '9:0' has no gold document, whose",
        *instructions,
        "--candidates",
        "pool.jsonl",
    )


def test_m2kr(tmp_path: Path) -> None:
    passages = [{"passage_id": f"OKVQA_{n}", "passage_content": f"passage {n}"} for n in range(10)]
    assert list(read_corpus(put(tmp_path / "p.jsonl", passages))) == [
        Document(f"OKVQA_{n}", f"passage {n}") for n in range(10)
    ]
    rows = [
        {
            "question_id": f"OKVQA_{n}",
            "question": f"what {n}",
            "img_path": f"val2014/{n}.jpg",
            "instruction": "Use the picture:",
            "answers": ["a"],
            "pos_item_ids": [f"OKVQA_{n}"],
            "pos_item_contents": [f"passage {n}"],
        }
        for n in range(10)
    ]
    assert list(read_queries(put(tmp_path / "q.jsonl", rows))) == [
        Query(
            f"OKVQA_{n}",
            f"what {n}",
            f"val2014/{n}.jpg",
            "Use the picture:",
            answers=("a",),
            positives=(f"OKVQA_{n}",),
        )
        for n in range(10)
    ]
