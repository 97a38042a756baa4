"""SimCSE's NLI pairs: a corpus of sentences, queries with gold sentences and a run of hard negatives; bad rows are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.corpus import read_corpus
from gemkr.data.documents import DocumentStore
from gemkr.data.nli_training import read_nli_training
from gemkr.data.queries import read_queries
from gemkr.data.trec import read_run
from gemkr.errors import DataError
from gemkr.training.contrastive.config import NegativesConfig
from gemkr.training.contrastive.data import make_pairs
from gemkr.types import Query

ROWS = """\
sent0,sent1,hard_neg
A man plays a flute.,"A man, playing.",A man sleeps.
"Two dogs run.
Fast.",Animals move.,Two dogs sleep.
A man sleeps.,"A ""man"" rests.",Animals move.
One cat sits.,A cat sits.,
 A boat sails. ,A boat sails.,A boat sails.
"""


def test_pairs_are_read_as_training_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "nli_for_simcse.csv"
    path.write_text(ROWS)
    files = [str(tmp_path / name) for name in ("out.jsonl", "corpus.jsonl", "negatives.trec")]
    command = ["queries", str(path), "-o", files[0], "--corpus", files[1], "--negatives", files[2]]
    assert main(command) == 0
    assert "with gold documents 5" in capsys.readouterr().out
    documents = {document.doc_id: document.text for document in read_corpus(files[1])}
    texts = [
        "A man, playing.",
        "A man sleeps.",
        "Animals move.",
        "Two dogs sleep.",
        'A "man" rests.',
        "A cat sits.",
    ]
    assert list(documents.values()) == [*texts, "A boat sails."]
    queries = list(read_queries(files[0]))
    assert queries[1] == Query("nli_for_simcse:1", "Two dogs run.\nFast.", positives=("Animals%20move.",))
    assert queries[4].question == "A boat sails."
    run = {query_id: [documents[hit.doc_id] for hit in hits] for query_id, hits in read_run(files[2]).items()}
    others = ["A man sleeps.", "Two dogs sleep.", "Animals move."]
    assert run == {f"nli_for_simcse:{n}": [text] for n, text in enumerate(others)}
    config = NegativesConfig(run=files[2])
    pairs = make_pairs(queries, DocumentStore.open(files[1]), read_run(files[2]), config, "here")
    assert [(pair.target, pair.negatives) for pair in pairs] == [
        (0, (1,)),
        (2, (3,)),
        (4, (2,)),
        (5, ()),
        (6, ()),
    ]
    with gzip.open(tmp_path / "nli.csv.gz", "wt") as stream:
        stream.write(ROWS.replace(",hard_neg", "").replace(",A man sleeps.", ""))
    with pytest.raises(
        DataError, match=r"nli.csv.gz:3: the row has 3 columns, the header names 2 \(sent0, sent1\)"
    ):
        read_nli_training(tmp_path / "nli.csv.gz")
    assert main([*command, "--pools", str(tmp_path / "pools.jsonl")]) == 1
    assert "are for MMEB's sets and SimCSE's NLI pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b,c\n\na,b\n", r"nli.csv:4: the row has 2 columns, the header names 3"),
        ("a,b,c\n,b,c\n", r"nli.csv:3: 'sent0' is empty; give it a sentence, or delete the row"),
        ("a, ,c\n", r"nli.csv:2: 'sent1' is empty"),
        ('a,b,c\na,"b" b,c\n', r"nli.csv:3: broken quoting"),
        ('a,b,c\na,"b,c\na,b,c\n', r"nli.csv:3: the row opens a quote that is never closed"),
        ("", r"nli.csv holds no pair"),
        ("a,b,c\na,\udce9,c\n", r"nli.csv:3: 'sent1' is not valid UTF-8: the byte E9 is 'é' in latin-1"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "nli.csv"
    path.write_text(f"sent0,sent1,hard_neg\n{rows}", errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        read_nli_training(path)
