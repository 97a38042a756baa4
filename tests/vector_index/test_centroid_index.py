"""The centroid index: codes decode to what was encoded, candidates come from every query vector, and all of it agrees with exact search
where everything is looked at."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from token_twins import clustered, drawn

from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.centroid_index import CentroidIndex
from gemkr.vector_index.maxsim import joined_tokens, picked
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_exact import ExactTokenIndex

Config = CentroidIndex.Config
ALL = {"probes": 10_000, "prune": 0.0, "candidates": 10_000, "decoded": 10_000, "rescored": 10_000}


def questions(random: np.random.Generator, tokens: TokenVectors, n: int) -> TokenVectors:
    """Some tokens of a document each, with noise."""
    rows = []
    for doc in random.integers(1, len(tokens.offsets) - 1, n):
        own = tokens.values[tokens.offsets[doc] : tokens.offsets[doc + 1]][:6].astype(np.float32)
        own = own + 0.2 * random.standard_normal(own.shape) / own.shape[1] ** 0.5
        rows.append(own / np.linalg.norm(own, axis=1, keepdims=True))
    return TokenVectors(np.concatenate(rows).astype(np.float32), np.cumsum([0, *map(len, rows)]))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_decode_to_about_what_was_encoded(bits: int) -> None:
    random = np.random.default_rng(0)
    values = clustered(random, 100, noise=1.0).values
    codec = ResidualCodec.learned(values, 16, bits)
    codes, residuals = codec.encoded(values)
    assert (codes.dtype, residuals.dtype, residuals.shape[1]) == (np.uint16, np.uint8, 16 * bits // 8)
    error = np.linalg.norm(codec.decoded(codes, residuals) - values, axis=1).mean()
    plain = np.linalg.norm(codec.centroids[codes] - values.astype(np.float32), axis=1).mean()
    assert error < {2: 0.5, 4: 0.15, 8: 0.02}[bits] * plain
    assert codec.bits == bits
    assert codec.unit
    np.testing.assert_allclose(np.linalg.norm(codec.decoded(codes, residuals), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_looking_at_everything_is_exact_search(bits: int) -> None:
    random = np.random.default_rng(bits)
    tokens = clustered(random, 150)
    queries = questions(random, tokens, 8)
    index = CentroidIndex.build(Config(bits=bits, lists=32, **ALL), tokens)
    for allowed in (None, random.random(150) < 0.3):
        expected = ExactTokenIndex(tokens).search(queries, 12, allowed)
        found = index.search(queries, 12, allowed)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
        assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("prune", [0.0, 0.4])
def test_a_query_that_points_away_from_all_documents_looks_into_several_lists(prune: float) -> None:
    random = np.random.default_rng(3)
    tokens = drawn(random, random.integers(1, 8, 300).tolist(), 16)
    tokens = TokenVectors(abs(tokens.values), tokens.offsets)
    queries = drawn(random, [1] * 8, 16, np.float32)
    queries = TokenVectors(-abs(queries.values), queries.offsets)
    index = CentroidIndex.build(Config(lists=16, prune=prune, rescored=300), tokens)
    docs, expected = index.search(queries, 10)[1], ExactTokenIndex(tokens).search(queries, 10)[1]
    recall = np.mean([len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(docs, expected, strict=True)])
    assert recall > 0.9


def test_a_few_probes_find_nearly_all() -> None:
    random = np.random.default_rng(7)
    tokens = clustered(random, 400)
    queries = questions(random, tokens, 20)
    exact = ExactTokenIndex(tokens).search(queries, 10)[1]
    config = Config(bits=4, lists=64, probes=6, candidates=150, decoded=60, rescored=30)
    index = CentroidIndex.build(config, tokens)
    share = np.mean(
        [len(set(a) & set(b)) / 10 for a, b in zip(index.search(queries, 10)[1], exact, strict=True)]
    )
    assert share > 0.95
    decoded = CentroidIndex(Config(bits=8, probes=6, rescored=0), index.codec, index.parts).search(
        queries, 10
    )[1]
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(decoded, exact, strict=True)])
    assert share > 0.85
    assert (
        index.bytes_per_token < 2 + 16 * 4 / 8 + 4 + 8
    )  # a centroid, codes, a place in a list, and what all share


def test_the_image_vectors_at_the_end_of_a_query_find_documents_too() -> None:
    """PLAID in PreFLMR looks for candidates with the first 32 vectors only; here the fortieth is enough."""
    random = np.random.default_rng(9)
    tokens = clustered(random, 300)
    far = -tokens.values.astype(np.float32).mean(axis=0)
    far /= np.linalg.norm(far)
    wanted = tokens.values[tokens.offsets[77] : tokens.offsets[78]].astype(np.float32)
    query = np.vstack([np.tile(far, (39, 1)) * 0.05, wanted])
    queries = TokenVectors(query.astype(np.float32), np.array([0, len(query)]))
    config = Config(bits=4, lists=40, probes=2, candidates=20, decoded=10, rescored=5)
    assert CentroidIndex.build(config, tokens).search(queries, 1)[1][0, 0] == 77


def test_documents_are_added_deleted_and_kept(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    tokens, more = clustered(random, 120), clustered(random, 40)
    index = CentroidIndex.build(Config(lists=32, **ALL), tokens)
    assert index.add(more).tolist() == list(range(120, 160))
    index.delete(np.array([5, 130]))
    both = joined_tokens([tokens, more], 16)
    queries = questions(random, both, 10)
    alive = np.ones(160, bool)
    alive[[5, 130]] = False
    expected = ExactTokenIndex(both).search(queries, 15, alive)
    index.save(tmp_path / "index")
    index.save(tmp_path / "index")  # over an earlier state
    for found in (index, CentroidIndex.open(tmp_path / "index", Config(lists=32, **ALL), tokens)):
        scores, docs = found.search(queries, 15)
        assert np.array_equal(docs, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-5)
        assert not np.isin(docs, [5, 130]).any()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    with pytest.raises(DataError, match="there is no document 160 among the 160"):
        index.delete(np.array([160]))
    with pytest.raises(DataError, match="the index holds vectors of 16 numbers"):
        index.add(drawn(random, [2], 8))


def test_added_documents_unlike_the_others_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    tokens, like = clustered(random, 300, 32), clustered(np.random.default_rng(8), 20, 32)
    unlike = clustered(random, 300, 32)
    config = Config(lists=64, probes=4, candidates=60, decoded=40, rescored=24)
    index = CentroidIndex.build(config, tokens)
    index.add(like)
    assert index.searched_exactly == 0
    index.add(unlike)
    assert index.searched_exactly == 299  # all that have a token
    index.delete(np.array([325]))
    assert index.searched_exactly == 298
    both = joined_tokens([tokens, like, unlike], 32)
    alive = np.arange(620) != 325
    queries = questions(random, unlike, 10)
    expected = ExactTokenIndex(both).search(queries, 20, alive)
    index.save(tmp_path / "index")
    for found in (index, CentroidIndex.open(tmp_path / "index", config, tokens)):
        scores, docs = found.search(queries, 20)
        assert np.mean([len(set(ours) & set(theirs)) / 20 for ours, theirs in zip(docs.tolist(), expected[1].tolist(), strict=True)]) > 0.95  # fmt: skip
        assert np.array_equal(docs[:, 0], expected[1][:, 0])
        assert all(len(set(row)) == 20 for row in docs.tolist())
        np.testing.assert_allclose(scores[:, 0], expected[0][:, 0], atol=1e-5)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_stop_while_an_index_is_saved_leaves_the_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """At the first new name, that of the earlier state, or at the second, when nothing has the index's name."""
    tokens = clustered(np.random.default_rng(0), 20)
    index = CentroidIndex.build(Config(lists=4), tokens)
    index.save(tmp_path / "index")
    index.delete(np.array([3]))
    replace, left = os.replace, [calls]

    def stopping(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            index.save(tmp_path / "index")
    found = CentroidIndex.open(tmp_path / "index", tokens=tokens)
    assert (found.search(questions(np.random.default_rng(1), tokens, 4), 20)[1] == 3).any(axis=1).all()
    index.save(tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    found = CentroidIndex.open(tmp_path / "index", tokens=tokens)
    assert not (found.search(questions(np.random.default_rng(1), tokens, 4), 20)[1] == 3).any()


def test_documents_that_do_not_fit_are_not_added() -> None:
    random = np.random.default_rng(5)
    index = CentroidIndex.build(Config(lists=8), clustered(random, 60))
    values = drawn(random, [3], 16, np.float32).values
    for changed, offsets, message in (
        (values * 1e6, [0, 3], "a number that float16 cannot"),
        (values * np.nan, [0, 3], "a number that float16 cannot"),
        *((values, wrong, "must rise from 0 to their 3 vectors") for wrong in ([0, 2], [0, 5], [1, 3], [0, 2, 1, 3], [])),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            index.add(TokenVectors(changed, np.array(offsets, np.int64)))
    assert len(index) == 60
    assert index.add(TokenVectors(values, np.array([0, 0, 3]))).tolist() == [60, 61]


def test_rankings_are_never_short() -> None:
    random = np.random.default_rng(5)
    tokens = clustered(random, 60)
    config = Config(lists=32, probes=1, candidates=2, decoded=2, rescored=1)
    scores, docs = CentroidIndex.build(config, tokens).search(questions(random, tokens, 3), 80)
    assert (np.sort(docs[:, :59]) == np.arange(1, 60)).all()  # document 0 has no token
    assert (docs[:, 59:] == -1).all()
    assert (scores[:, 59:] == -np.inf).all()


def test_an_index_lies_in_the_folder_of_its_tokens(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    tokens = clustered(random, 100)
    config = Config(lists=32, bits=2)
    with pytest.raises(DataError, match="have no centroid index of these settings; make it with gemkr embed"):
        CentroidIndex.from_config(config, tokens, tmp_path)
    assert CentroidIndex.prepare(config, tokens, tmp_path)
    assert not CentroidIndex.prepare(Config(lists=32, bits=2, probes=3), tokens, tmp_path)
    memory, stored = CentroidIndex.build(config, tokens), CentroidIndex.from_config(config, tokens, tmp_path)
    queries = questions(random, tokens, 5)
    assert np.array_equal(memory.search(queries, 5)[1], stored.search(queries, 5)[1])
    path = CentroidIndex.path(config, tokens, tmp_path)
    other = picked(tokens, np.arange(100)[::-1])
    with pytest.raises(DataError, match="is of other token vectors"):
        CentroidIndex.open(path, config, other)
    (path / "index.json").write_text(json.dumps({"format": "centroids 9"}))
    with pytest.raises(DataError, match="has the format 'centroids 9'"):
        CentroidIndex.open(path)
    (path / "index.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        CentroidIndex.open(path)


def test_settings_that_cannot_be() -> None:
    tokens = clustered(np.random.default_rng(0), 20)
    with pytest.raises(ConfigError, match=r"index.bits is 3; use 2, 4, 8"):
        Config(bits=3)
    with pytest.raises(DataError, match=r"index.lists is 999, and \d+ tokens allow for"):
        CentroidIndex.build(Config(lists=999), tokens)
    with pytest.raises(DataError, match="3 tokens are too few for a centroid index; use index: exact"):
        CentroidIndex.build(Config(), picked(drawn(np.random.default_rng(0), [3], 16), np.array([0])))
    with pytest.raises(DataError, match="at 2 bits do not fill whole bytes"):
        CentroidIndex.build(Config(bits=2, lists=4), drawn(np.random.default_rng(0), [60], 6))
