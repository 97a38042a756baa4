"""Building an index: what cannot be built is told, and what is built does not depend on threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_index import FakeTokenizer, toy_index

from gemkr.fm_index import FMIndex, IndexBuildError, TokenizerMismatchError


def test_same_bytes_for_any_number_of_threads(tmp_path: Path):
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.2, 250_000), 4000)
    offsets = np.unique(np.r_[0, rng.integers(0, len(tokens), 900), len(tokens)])
    images = []
    for threads in (1, 2, 7):
        path = tmp_path / f"{threads}.fmi"
        FMIndex.build_flat(tokens, offsets, threads=threads, document_array=True).save(path)
        images.append(path.read_bytes())
    assert images[0] == images[1] == images[2]


@pytest.mark.parametrize(
    ("docs", "options", "message"),
    [
        ([[1], [2, -3]], {}, "document 1 holds token -3"),
        ([[1, 9]], {"vocab_size": 9}, "document 0 holds token 9, outside the vocabulary of 9"),
        ([[2**31]], {}, "largest token id"),
        ([[2**70]], {}, "largest token id"),
        ([[1.5]], {}, "document 0 holds 1.5"),
        ([np.array([1.5])], {}, "array of float64"),
        ([np.zeros((2, 2), int)], {}, "2 dimensions"),
        (["text"], {}, "document 0 is a str"),
        ([5], {}, "document 0 is a int"),
        ([[1]], {"doc_ids": ["a", "b"]}, "1 documents but 2 document ids"),
        (
            [[1], [1], [2]],
            {"doc_ids": ["a", "b", "a"]},
            "document id 'a' is given to document 0 and to document 2",
        ),
        ([[1]], {"doc_ids": [7]}, "document id 7 is a int"),
        ([[1]], {"doc_ids": ["\ud800"]}, "UTF-8"),
        ([[1]], {"sample_rate": 0}, "sample_rate"),
        ([[1]], {"threads": -1}, "threads"),
        ([[1]], {"vocab_size": 0}, "vocab_size is 0"),
    ],
)
def test_builds_that_cannot_be(docs, options, message):
    with pytest.raises(IndexBuildError, match=message):
        FMIndex.build(docs, **options)


@pytest.mark.parametrize("kind", ["u2", "i4", "u4", "i8"])
def test_arrays_of_either_byte_order_are_read_alike(kind: str):
    offsets = np.array([0, 2, 3])
    for order in "<>":
        tokens = np.array([1, 2, 300], order + kind)
        assert FMIndex.build([tokens]).extract(0).tolist() == [1, 2, 300]
        flat = FMIndex.build_flat(tokens, offsets.astype(order + "i8"))
        assert [flat.extract(doc).tolist() for doc in range(2)] == [[1, 2], [300]]


def test_flat_offsets_must_fit():
    for offsets in ([0, 3], [1, 2], [0, 2, 1, 2], []):
        with pytest.raises(IndexBuildError, match="offsets"):
            FMIndex.build_flat(np.array([1, 2]), np.array(offsets, np.int64))


def test_progress_is_told_and_may_stop_a_build():
    stages = []
    FMIndex.build([[1, 2, 3]] * 9, progress=lambda stage, share: stages.append((stage, share)))
    assert stages[-1] == ("done", 1.0)

    def stop(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FMIndex.build([[1, 2, 3]] * 9, progress=stop)


def test_wrong_tokenizer_is_told_with_paths_and_sizes(tmp_path: Path):
    index = toy_index()
    index.check_tokenizer(FakeTokenizer())
    said = r"the index was built with a vocabulary of 50 tokens, not with the tokenizer, which has 50 others; give"
    with pytest.raises(TokenizerMismatchError, match=said):
        index.check_tokenizer(FakeTokenizer("toy:2"))
    with pytest.raises(TokenizerMismatchError, match=r"of 50 tokens, .* which has 40; give"):
        index.check_tokenizer(FakeTokenizer(vocab_size=40))
    index.save(tmp_path / "x.fmi")
    other = FakeTokenizer("toy:2", vocab_size=70)
    other.path = tmp_path / "llm"
    said = rf"the index {tmp_path}/x\.fmi was built with .* not with the tokenizer {tmp_path}/llm, which has 70; give"
    with pytest.raises(TokenizerMismatchError, match=said) as refusal:
        FMIndex.load(tmp_path / "x.fmi").check_tokenizer(other)
    assert "toy:" not in str(refusal.value)
    FMIndex.build([[1]]).check_tokenizer(FakeTokenizer("any"))


def test_info_tells_the_price_of_each_part():
    index = toy_index(document_array=True)
    info = index.info()
    total = 8 * sum(info["sections"].values()) / index.n_tokens
    assert sum(info["bits_per_token"].values()) == pytest.approx(total, abs=0.01)
    assert info["bits_per_token"]["document array"] > 0
    assert toy_index().info()["bits_per_token"]["document array"] == 0
