"""The documents' promises: their Python runs, their commands parse, their links and configurations exist."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from toy_text import train_sentencepiece

from gemkr.cli import build_parser, main
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig

ROOT = Path(__file__).resolve().parents[2]
PAPERS = [
    str(path.relative_to(ROOT))
    for pattern in (
        "*.md",
        "docs/*.md",
        "dataset/*.md",
        "index/*.md",
        "gemkr/sample/*.md",
        "benchmarks/*.md",
        "benchmarks/*/*.md",
        "benchmarks/*/notes/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]
PUBLIC = [paper for paper in PAPERS if not paper.startswith("benchmarks/")]
WORDS = 9200
"""How many the public documents have in all, at most."""
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README + GUIDE, flags=re.DOTALL)


def commands(text: str) -> list[str]:
    return [line.strip().split("  #")[0] for line in text.splitlines() if re.match(r" {4}gemkr ", line)]


def run_python(code: str) -> dict[str, object]:
    scope: dict[str, object] = {"__name__": "document"}
    exec(compile(code, "document", "exec"), scope)
    return scope


def block(word: str) -> str:
    (code,) = [code for code in PYTHON if word in code]
    return code


def test_the_index_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope = run_python(block("FMIndex.build([["))
    assert (list(scope["tokens"]), list(scope["counts"])) == ([8], [1])
    assert (tmp_path / "tiny.fmi").exists()


def test_the_generative_example_runs() -> None:
    assert run_python(block("RandomLM"))["hit"].evidence


def test_the_example_of_a_collection_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus.csv").write_text("kid,text\na,a red kite\nb,a blue drum\n")
    tokenizer = str(train_sentencepiece(tmp_path / "t.model"))
    assert main(["collection", "create", "wiki", "corpus.csv", "--tokenizer", tokenizer]) == 0
    assert [document.doc_id for document in run_python(block("Collection.open"))["collection"].documents] == [
        "a",
        "b",
        "new",
    ]


def test_the_example_of_a_retriever_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("mine.py").write_text(block("class InOrder"))
    Path("corpus.csv").write_text("kid,text\na,a red kite\nb,a blue drum\n")
    Path("test.jsonl").write_text(
        json.dumps({"query_id": "1", "question": "what?", "answers": ["drum"]}) + "\n"
    )
    (section,) = re.findall(r"`(retrievers: \{ordered: .*?\}\})`", GUIDE)
    Path("mine.yaml").write_text(f"corpus: corpus.csv\nqueries: test.jsonl\noutput: out\n{section}\n")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert main(["eval", "mine.yaml", "metrics=[S@1]"]) == 0
    assert json.loads(Path("out/metrics.json").read_text())["rows"]["ordered"]["S@1"] == 1.0


def test_the_example_of_an_evaluation_is_a_configuration(tmp_path: Path) -> None:
    (text,) = [
        text for text in re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL) if "retrievers:" in text
    ]
    (tmp_path / "mine.yaml").write_text(text)
    config = load_config(tmp_path / "mine.yaml", EvalConfig)
    assert config.evaluated == ("hybrid", "gemkr", "bm25")


def test_the_public_documents_are_short() -> None:
    assert sum(len((ROOT / paper).read_text(encoding="utf-8").split()) for paper in PUBLIC) < WORDS


@pytest.mark.parametrize("paper", PAPERS)
def test_commands_parse(paper: str) -> None:
    parser = build_parser()
    for command in commands((ROOT / paper).read_text(encoding="utf-8")):
        parser.parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper: str) -> None:
    path = ROOT / paper
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
        linked = path.parent / target if target else path
        assert linked.exists(), f"{paper} links to {target}"
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), (
                f"{paper} links to {target}#{anchor}"
            )


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_named_configurations_exist() -> None:
    for paper in PUBLIC:
        text = (ROOT / paper).read_text(encoding="utf-8")
        for name in re.findall(r"(?:train|eval)_configs/[\w.]+", text):
            assert (ROOT / name).is_file(), f"{paper} names {name}"


def test_the_way_without_base_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    section = README.split("## Your own corpus, without base models")[1].split("\n## ")[0]
    monkeypatch.chdir(tmp_path)
    places = ["a barn", "the attic", "a tall tower", "the old mill", "a river bed", "the harbour"]
    things = ["kite", "drum", "harp", "lamp", "boat", "bell", "rope", "coin", "mask", "flute", "map", "key"]
    found = {thing: places[number % len(places)] for number, thing in enumerate(things)}
    corpus = [
        f"{n},The {thing} was found in {place} by a boy." for n, (thing, place) in enumerate(found.items())
    ]
    Path("corpus.csv").write_text("kid,text\n" + "\n".join(corpus) + "\n")
    questions = [
        {
            "query_id": thing,
            "question": f"Where was the {thing} found?",
            "caption": f"a {thing}",
            "answers": [place],
        }
        for thing, place in found.items()
    ]
    for name in ("train.jsonl", "test.jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in questions))
    small = {
        "pretrain": ["vocabulary.pieces=330"],
        "train": ["batch_size=4", "optimizer.lr=3e-3", "epochs=30"],
    }
    for command in commands(section):
        words = shlex.split(command)[1:]
        assert main([*words, *small.get(words[0], ())]) == 0, command
    row = json.loads(Path("runs/small/eval/metrics.json").read_text())["rows"]["gemkr"]
    assert row["S@1"] > 0.5
    assert "kite" in Path("runs/small/eval/report.html").read_text()
