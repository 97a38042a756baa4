"""What contrastive training draws anew in every epoch: a positive, hard negatives, an instruction; and that it resumes to the digit."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tiny_encoder import save_tiny_encoder
from tiny_pictures import WORDS

from gemkr.config.files import from_mapping, to_mapping
from gemkr.data.documents import DocumentStore
from gemkr.data.mbeir import InstructionProvider
from gemkr.errors import ConfigError, DataError
from gemkr.models.weights import weights_digest
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.origin import Origin, origins_differ
from gemkr.training.contrastive.config import ContrastiveConfig, NegativesConfig
from gemkr.training.contrastive.data import PairDataset, make_pairs
from gemkr.training.contrastive.draws import Draws, filled
from gemkr.training.contrastive.run import train_encoder
from gemkr.training.loop.log import read_rows
from gemkr.types import Document, Hit, Query

DOCUMENTS = DocumentStore([Document(f"d{i}", f"text {i}") for i in range(12)])
QUERIES = [
    Query("a", "1", positives=("d0", "d1", "d2", "d1")),
    Query("b", "2", positives=("d3",)),
    Query("none", "3"),
]
RUN = {"a": [Hit(f"d{i}", 20.0 - i) for i in range(12)], "b": [Hit("d4", 1.0)]}


def shown(dataset: PairDataset, place: int, epochs: int) -> list[tuple[int, tuple[int, ...]]]:
    """The target and the negatives of a sample in each epoch."""
    pairs = [dataset[epoch * len(dataset) + place][0] for epoch in range(epochs)]
    assert all(not pair.others for pair in pairs)
    return [(pair.target, pair.negatives) for pair in pairs]


def test_one_positive_of_a_query_an_epoch() -> None:
    """Each as often as another, another in another epoch, the same by the same seed; none of them is ever a negative."""
    each = make_pairs(QUERIES, DOCUMENTS, None, None, "here")
    assert [(pair.target, pair.others) for pair in each] == [(0, ()), (1, ()), (2, ()), (3, ())]
    one = make_pairs(QUERIES, DOCUMENTS, None, None, "here", "one")
    assert [(pair.target, pair.others) for pair in one] == [(0, (1, 2)), (3, ())]
    assert [pair.positives for pair in one] == [frozenset({0, 1, 2}), frozenset({3})]
    dataset = PairDataset(one, DOCUMENTS, Draws(7))
    drawn = shown(dataset, 0, 3000)
    counts = Counter(target for target, _ in drawn)
    assert counts.keys() == {0, 1, 2}
    assert all(abs(count - 1000) < 120 for count in counts.values())
    assert {target for target, _ in shown(dataset, 1, 20)} == {3}
    assert drawn[:50] == shown(PairDataset(one, DOCUMENTS, Draws(7)), 0, 50)
    assert drawn[:50] != shown(PairDataset(one, DOCUMENTS, Draws(8)), 0, 50)
    pair, documents = dataset[4 * len(dataset)]
    assert [document.doc_id for document in documents] == [f"d{pair.target}"]
    assert pair.positives == {0, 1, 2}


def test_hard_negatives_drawn_from_all_of_a_window() -> None:
    """As UniIR draws from neg_cand_list: so many of all, none twice, others in another epoch; where there are fewer, all."""
    config = NegativesConfig(run="run.trec", per_query=2, depth=8, draw="random")
    pairs = make_pairs(QUERIES, DOCUMENTS, RUN, config, "here", "one")
    drawn = [negatives for _, negatives in shown(PairDataset(pairs, DOCUMENTS, Draws(3, 2)), 0, 400)]
    assert all(len({*negatives}) == 2 for negatives in drawn)
    counts = Counter(number for negatives in drawn for number in negatives)
    assert counts.keys() == {3, 4, 5, 6, 7}
    assert all(abs(count - 160) < 50 for count in counts.values())
    assert {negatives for _, negatives in shown(PairDataset(pairs, DOCUMENTS, Draws(3, 2)), 1, 9)} == {(4,)}
    first = make_pairs(QUERIES, DOCUMENTS, RUN, NegativesConfig(run="run.trec", per_query=2), "here")
    assert first[0].negatives == (3, 4)


def test_instructions_are_drawn_for_what_is_looked_for(tmp_path: Path) -> None:
    """By the modality of the positive that was drawn, in place of the query's own."""
    table = tmp_path / "instructions.tsv"
    rows = ["query_modality\tcand_modality\tname\tid", "text\ttext\tset\t9\tfind it\tlook for it"]
    table.write_text("\n".join([*rows, "text\timage\tset\t9\tshow it"]) + "\n")
    documents = DocumentStore([Document("d0", "fox"), Document("d1", image="fox")])
    query = Query("9:1", "1", instruction="own", positives=("d0", "d1"))
    pairs = make_pairs([query], documents, None, None, "here", "one")
    draws = Draws(3, None, InstructionProvider(table), "here")
    draws.require(pairs, documents)
    dataset = PairDataset(pairs, documents, draws)
    drawn = {(pair.target, pair.query.instruction) for pair, _ in (dataset[epoch] for epoch in range(60))}
    assert drawn == {(0, "find it"), (0, "look for it"), (1, "show it")}
    other = make_pairs([Query("8:1", "1", positives=("d0",))], documents, None, None, "here", "one")
    with pytest.raises(DataError, match="here: the query '8:1' goes from text to text in data set '8'"):
        draws.require(other, documents)


def test_data_sets_are_filled_up() -> None:
    """All of a data set's own samples, and of them at random what is missing; the same ones by the same seed."""
    queries = [Query(f"{i % 3}:{i}", "1", positives=("d0",)) for i in range(30)]
    queries.append(Query("7:1", "no positives"))
    pairs = make_pairs(queries, DOCUMENTS, None, None, "here")
    found = filled(pairs, {"1": 25, "2": 5}, 4)
    assert found[:30] == pairs
    assert Counter(pair.query.query_id[0] for pair in found) == {"0": 10, "1": 25, "2": 10}
    assert len({pair.query.query_id for pair in found[30:]}) > 3
    assert found == filled(pairs, {"1": 25, "2": 5}, 4) != filled(pairs, {"1": 25, "2": 5}, 5)
    assert filled(pairs, {}, 4) == pairs
    with pytest.raises(
        ConfigError,
        match=r"the data set '7', with which the id of no query with positives begins \(known: 0, 1, 2\)",
    ):
        filled(pairs, {"7": 25}, 4)
    assert filled(pairs, {"1": 0}, 4) == pairs
    with pytest.raises(ConfigError, match=r"at_least\.1 is -3; use 0 or more samples"):
        filled(pairs, {"1": -3}, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight queries, each answered by two of sixteen documents, and a run of hard negatives."""
    save_tiny_encoder(tmp_path / "encoder", WORDS)
    texts = [" ".join(WORDS[(i * step + 3) % len(WORDS)] for step in (1, 5, 7)) for i in range(16)]
    rows = {
        "queries": [
            {"query_id": f"9:{i}", "question": texts[i], "positives": [f"d{i}", f"d{i + 8}"]}
            for i in range(8)
        ],
        "corpus": [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)],
    }
    for name, own in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    lines = (f"9:{i} Q0 d{(i + j) % 16} {j} {20 - j} bm25\n" for i in range(8) for j in range(1, 8))
    (tmp_path / "run.trec").write_text("".join(lines))
    return tmp_path


def configure(folder: Path, name: str, **changes: object) -> ContrastiveConfig:
    values = {
        "encoder": {"kind": "sentence_transformers", "folder": str(folder / "encoder")},
        "corpus": str(folder / "corpus.jsonl"), "queries": str(folder / "queries.jsonl"), "output": str(folder / name),
        "positives": "one", "negatives": {"run": str(folder / "run.trec"), "per_query": 2, "draw": "random"},
        "batch_size": 4, "epochs": 3, "workers": 0, "log_every": 1, "save_every": 1, "keep_checkpoints": 9,
    }  # fmt: skip
    return from_mapping(values | changes, ContrastiveConfig, "test")


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_rows(folder)]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_that_draws_resumes_to_the_last_digit(folder: Path, workers: int) -> None:
    """From the middle of an epoch, in which it draws what the uninterrupted run drew, also in a worker process."""
    outcome = train_encoder(configure(folder, "whole"))
    assert outcome.step == 6
    shutil.copytree(folder / "whole", folder / "part")
    for name in ("final", *(f"step-00000{step}" for step in (4, 5, 6))):
        shutil.rmtree(folder / "part" / name)
    resumed = train_encoder(configure(folder, "part", workers=workers), resume="auto")
    assert losses(folder / "part") == losses(folder / "whole")
    first, second = (read_checkpoint(done.checkpoint).weights for done in (outcome, resumed))
    assert weights_digest(first) == weights_digest(second)


def test_runs_of_earlier_versions_go_on(tmp_path: Path) -> None:
    """Their settings lack what was added since, which meant what it means by default; what is set otherwise is another run."""
    values = {
        "encoder": {"kind": "vlm", "folder": "vlm"},
        "corpus": "corpus.jsonl", "queries": "queries.jsonl", "output": "out", "negatives": {"run": "run.trec"},
    }  # fmt: skip

    def origin(**changes: object) -> Origin:
        settings = to_mapping(from_mapping(values | changes, ContrastiveConfig, "test", tmp_path))
        return Origin("contrastive", "t", "d", settings)

    earlier = origin()
    for section, names in (
        (earlier.config, ("positives", "instructions", "at_least", "by_length")),
        (earlier.config["negatives"], ("draw",)),
        (earlier.config["loss"], ("direct", "least")),
        (earlier.config["optimizer"], ("decay",)),
        (earlier.config["encoder"], ("square", "document_picture")),
    ):
        for name in names:
            del section[name]
    assert origins_differ(earlier, origin(), frozenset()) is None
    assert origins_differ(earlier, origin(positives="one"), frozenset()) == "positives was 'each', is 'one'"
    assert origins_differ(earlier, origin(at_least={"9": 4}), frozenset()) == "at_least.9 was None, is 4"


def test_draws_are_settings_of_a_training(folder: Path) -> None:
    """Each of them changes what is learned; `each` has twice as many samples here; a word that is none is refused."""
    train_encoder(configure(folder, "drawn"))
    negatives = {"run": str(folder / "run.trec"), "per_query": 2}
    train_encoder(configure(folder, "first", negatives=negatives))
    assert train_encoder(configure(folder, "each", positives="each")).step == 12
    (folder / "table.tsv").write_text("q\tc\tname\tid\ntext\ttext\tset\t9\tfind a photo\tthe big one\n")
    train_encoder(configure(folder, "told", instructions=str(folder / "table.tsv")))
    train_encoder(configure(folder, "mixed", by_length=False))
    assert train_encoder(configure(folder, "more", at_least={"9": 12})).step == 9
    figures = [losses(folder / name)[:6] for name in ("drawn", "first", "each", "told", "mixed", "more")]
    assert len({tuple(own) for own in figures}) == 6
    with pytest.raises(ConfigError, match="positives is 'two'; use each or one"):
        train_encoder(configure(folder, "other", positives="two"))
    with pytest.raises(ConfigError, match=r"negatives.draw is 'last'; use first or random"):
        train_encoder(configure(folder, "other", negatives=negatives | {"draw": "last"}))
    low = {"temperature": 0.001, "learnable": True}
    with pytest.raises(
        ConfigError, match=r"loss.temperature is 0.001, and loss.least, down to which it is learned, 0.01"
    ):
        train_encoder(configure(folder, "other", loss=low))
    assert train_encoder(configure(folder, "low", loss=low | {"least": 0.001}, max_steps=1)).step == 1
