"""The driver of the table of what the index is worth: its steps, its corpora, and the settings that they give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa import index_worth
from gemkr.config.files import load_config
from gemkr.data.clues import MinedClue, write_clues
from gemkr.data.corpus import read_corpus
from gemkr.evaluation.config import EvalConfig
from gemkr.training.config import TrainConfig

CLUE = MinedClue("q", "3", 0, 1, (5,), "tea", "short", 1, "tea")


def test_models_of_all_forms_write_under_all_corpora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def play(product: Path, *command: object) -> None:
        asked.append([str(word) for word in command])
        product.parent.mkdir(parents=True, exist_ok=True)
        if command[0] == "mine":
            write_clues(product, [CLUE])
        elif command[0] == "eval":
            row = dict.fromkeys(("P@5", "S@5", "S@10"), 0.5)
            line = {"query_id": "q", "rows": dict.fromkeys(index_worth.ROWS, row)}
            (product.parent / "per_query.jsonl").write_text(json.dumps(line) + "\n")

    corpus = tmp_path / "corpus.csv"
    corpus.write_text("kid,text\n" + "".join(f'{n},"passage {n}, ""quoted"""\n' for n in range(9)))
    for module in (okvqa_cpu, index_worth):
        monkeypatch.setattr(module, "step", play)
        monkeypatch.setattr(module, "CORPUS", corpus)
    monkeypatch.setattr(index_worth, "WORDNET", corpus)
    home = tmp_path / "run"
    given = (
        "--train",
        corpus,
        "--questions",
        corpus,
        "--llm",
        tmp_path,
        "--folder",
        home,
        "--precision",
        "fp32",
    )
    monkeypatch.setattr("sys.argv", ["index_worth", *map(str, given)])
    assert index_worth.main() == 0
    verbs = [words[0] for words in asked]
    assert (verbs.count("mine"), verbs.count("train"), verbs.count("eval")) == (3, 3, 9)
    assert [
        words[words.index("-o") + 1].removeprefix(f"{home}/") for words in asked if words[0] == "index"
    ] == [*("wiki112k.fmi", "wiki112k.fmi", "unseen.fmi", "wordnet.fmi")]
    texts = {document.doc_id: document.contents for document in read_corpus(home / "unseen.csv.gz")}
    assert list(texts) == ["0", "1", "2", "4"]
    assert texts["4"] == 'passage 4, "quoted"'
    assert "4 passages of 9, 1 of which a clue came from" in capsys.readouterr().out
    for words in asked:
        if words[0] == "train":
            learned = load_config(words[1], TrainConfig, words[2:])
            assert (learned.epochs, learned.model.precision) == (1, "fp32")
    evaluated = [load_config(words[1], EvalConfig, words[2:]) for words in asked if words[0] == "eval"]
    for config in evaluated:
        form, over = Path(config.output).parts[-2:]
        main = config.retrievers["generative"].config
        assert main.index == f"{home}/{over}.fmi"
        assert main.model.precision == "fp32"
        assert main.model.checkpoint == f"{home}/{form}/train/final"
        assert main.decoding.beam_size == 10
        assert main.decoding.group_by_head == (form == "answer")
        assert config.evaluated == tuple(index_worth.ROWS)
    published = evaluated[-1].retrievers["generative"].config.decoding
    assert (published.groups, published.length_penalty, published.max_tokens) == (10, 1.5, 9)
    assert len(json.loads((home / "summary.json").read_text())) == 27
