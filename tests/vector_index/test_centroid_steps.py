"""The kernels of the centroid index agree with loops in numpy, and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from token_twins import clustered, drawn, maxsim

from gemkr.interfaces import TokenVectors
from gemkr.vector_index import _maxsim
from gemkr.vector_index.centroid_search import CHUNK, FORETOLD, LEARNED, SURE, _begun, _refined
from gemkr.vector_index.clustering import Nearest
from gemkr.vector_index.lookup_tables import LookupTables
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_parts import Part


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([2, 4, 8]), st.sampled_from([8, 16, 20, 36]), st.booleans())
def test_kernels_agree_with_decoding(seed: int, bits: int, width: int, unit: bool) -> None:
    """MaxSim over codes is that over what they decode to."""
    random = np.random.default_rng(seed)
    tokens = clustered(random, 12, width)
    learned = ResidualCodec.learned(tokens.values, 4, bits)
    codec = ResidualCodec(learned.centroids, learned.scales, learned.levels, unit)
    codes, residuals = codec.encoded(tokens.values)
    queries = drawn(random, [int(random.integers(1, 40))], width, np.float32)
    docs = random.permutation(12)[:7]
    found = _maxsim.coded(
        codes, residuals, codec.centroids, codec.table, codec.scales, unit, tokens.offsets, docs, queries.values, queries.offsets
    )  # fmt: skip
    decoded = TokenVectors(codec.decoded(codes, residuals), tokens.offsets)
    np.testing.assert_allclose(found, maxsim(queries, decoded)[:, docs], atol=1e-3)


@settings(max_examples=25)
@given(
    st.integers(0, 1000),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([8, 20, 36]),
    st.sampled_from([1, 31, 70]),
)
def test_steps_agree_with_loops(seed: int, bits: int, width: int, vectors: int) -> None:
    """Levels, probes, MaxSim by centroids, and MaxSim by look-up tables, for one query."""
    random = np.random.default_rng(seed)
    tokens = clustered(random, 12, width)
    codec = ResidualCodec.learned(tokens.values, 6, bits)
    codes, residuals = codec.encoded(tokens.values)
    query = drawn(random, [vectors], width, np.float32).values
    products = (
        random.standard_normal((6, -(-vectors // 32) * 32)).astype(np.float32) / 2
    )  # filled up with anything
    products[:, :vectors] = codec.centroids.astype(np.float16).astype(np.float32) @ query.T
    products_ = _maxsim.products(codec.half_centroids, query)
    np.testing.assert_allclose(products_[:, :vectors], products[:, :vectors], atol=1e-5)
    assert products_.shape == products.shape
    assert not products_[:, vectors:].any()
    levels, low, step = _maxsim.leveled(products)
    np.testing.assert_allclose(low + step * levels, products, atol=0.51 * step)
    assert (low, levels.min(), levels.max()) == (products.min(), 0, 255)

    chosen, scores = _maxsim.probes(products, vectors, 4)
    order = np.argsort(-products[:, :vectors], axis=0, kind="stable")[:4].T
    assert np.array_equal(chosen, order)
    assert np.array_equal(scores, np.take_along_axis(products[:, :vectors].T, order, axis=1))

    docs = random.permutation(12)[:7]
    part, first, last = Part.of(tokens, codec), 2 * (vectors // 6), vectors - vectors // 7
    bounds = np.array([0, first, last])
    found = _maxsim.by_centroid(levels, bounds, low, step, codes, tokens.offsets, docs)
    tables = LookupTables.of(query, codec, low, step)
    scanned = tables.scores(levels, part, docs, first, last)
    for doc, *ours, looked in zip(docs.tolist(), *found, scanned, strict=True):
        own = slice(*tokens.offsets[doc : doc + 2])
        if own.start == own.stop:
            assert ours == [-np.inf, -np.inf]
            assert looked == -np.inf
            continue
        rows = levels[codes[own], :vectors]
        each = low + step * rows.max(axis=0)
        assert ours == pytest.approx([each[:first].sum(), each[first:last].sum()], abs=1e-3)
        sums = _looked_up(tables, residuals[own]) + (rows * tables.weights[:vectors].astype(int) >> 8)
        each = tables.lows + sums.max(axis=0) * tables.steps
        assert looked == pytest.approx(each[first:last].sum(), abs=1e-3)


def _looked_up(tables: LookupTables, residuals: np.ndarray) -> np.ndarray:
    """int[tokens, vectors]: sums of entries, one look-up after the other."""
    halves = np.stack([residuals & 15, residuals >> 4], axis=2).reshape(len(residuals), -1)
    return np.array(
        [
            [sum(int(tables.entries[v // 2, h, v % 2, half]) for h, half in enumerate(row)) for v in range(len(tables.steps))]
            for row in halves
        ]
    )  # fmt: skip


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("width", [8, 20, 128])
def test_tables_hold_the_products_of_residuals(bits: int, width: int) -> None:
    """Entries and steps give the product of a query vector and a decoded token, off by no more than their rounding, and at 8 bits by
    what the halves of a byte do not add up to; eight of them never overflow a byte."""
    random = np.random.default_rng(bits * width)
    tokens = clustered(random, 12, width)
    codec = ResidualCodec.learned(tokens.values, 6, bits)
    codes, residuals = codec.encoded(tokens.values)
    query = drawn(random, [5], width, np.float32).values
    products = np.zeros((6, 32), np.float32)
    products[:, :5] = codec.centroids @ query.T
    levels, low, step = _maxsim.leveled(products)
    tables = LookupTables.of(query, codec, low, step)
    entries = tables.entries.swapaxes(1, 2).reshape(6, -1, 16)
    assert entries.max(axis=2).reshape(6, -1, 8).sum(axis=2, dtype=int).max() in range(240, 256)
    assert not entries[5:].any()
    assert not entries[:, 2 * residuals.shape[1] :].any()
    sums = _looked_up(tables, residuals) + levels[codes, :5] * (tables.weights[:5] / 256)
    decoded = ResidualCodec(codec.centroids, codec.scales, codec.levels, unit=False).decoded(codes, residuals)
    whole = decoded @ query.T
    # each vector's differences are compared, without `lows`
    found = (sums - sums[:1]) * tables.steps
    error = np.abs(found - (whole - whole[:1]))
    halves = entries.shape[1]
    rounded = (halves * tables.steps + step) + (
        0.5 * np.abs(query * codec.scales).sum(axis=1) if bits == 8 else 0
    )
    assert (error <= rounded + 1e-4).all()
    assert error.std() < (0.25 if bits == 8 else 0.08) * whole.std()


def test_better_scores_are_asked_for_until_nothing_more_can_come() -> None:
    """All of the best are found though their first scores are noisy, few others are looked at, and no more than were allowed."""
    random = np.random.default_rng(0)
    scores = random.standard_normal(20_000).astype(np.float32)
    true = scores + 2 + 0.2 * random.standard_normal(20_000).astype(np.float32)
    docs = random.permutation(20_000)
    place = np.argsort(docs)
    found, better = _refined(docs, scores[None], [lambda some: true[place[some]]], 50, 20_000)
    assert np.array_equal(better, true[place[found]])
    best = set(docs[np.argsort(-true)[:50]].tolist())
    assert best <= set(found.tolist())
    assert len(found) < 1000
    fewer, _ = _refined(docs, scores[None], [lambda some: true[place[some]]], 50, 200)
    assert np.array_equal(fewer, docs[np.argsort(-scores)[:200]])
    same, _ = _refined(docs, scores[None], [lambda some: scores[place[some]] + 1], 50, 20_000)
    assert len(same) == 128


@settings(max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(0, 900), st.integers(1, 60), st.integers(1, 900), st.floats(0.01, 2)
)
def test_what_is_refined_is_that_of_a_plain_loop(seed: int, n: int, k: int, most: int, spread: float) -> None:
    """Equal scores among them: the first of equal ones first, and equal better scores counted once."""
    random = np.random.default_rng(seed)
    docs, scores = random.permutation(n), random.integers(0, 40, n).astype(np.float32) / 4
    true = (scores + np.round(random.normal(1, spread, n), 1)).astype(np.float32)[np.argsort(docs)]
    ranked = sorted(range(n), key=lambda i: (-scores[i], i))[:most]
    done = 0
    while done < len(ranked):
        done = min(done + CHUNK, len(ranked))
        seen = [float(true[docs[i]]) for i in ranked[:done]]
        added = {better: better - float(scores[i]) for i, better in reversed(list(zip(ranked, seen)))}
        if k <= done < len(ranked) and len(added) >= LEARNED:
            gains = np.array(list(added.values()))
            if scores[ranked[done]] + gains.mean() + SURE * gains.std() < sorted(seen)[-k]:
                break
    found, better = _refined(docs, scores[None], [lambda some: true[some]], k, most)
    assert found.tolist() == [docs[i] for i in ranked[:done]]
    assert better.tolist() == true[found].tolist()


def test_steps_refuse_what_does_not_fit() -> None:
    levels, codes, offsets = np.zeros((2, 32), np.uint8), np.array([0, 1], np.uint16), np.array([0, 2])
    docs = np.array([0])
    by_centre = (levels, np.array([0, 1, 3]), -1.0, 0.5, codes, offsets, docs)
    assert _maxsim.by_centroid(*by_centre).tolist() == [[-1.0], [-2.0]]
    for change, message in (
        ({0: np.zeros((2, 16), np.uint8)}, "levels must be .centroids, a multiple of 32"),
        ({1: np.array([0, 33])}, "bounds must rise from 0 or more to at most 32"),
        ({4: np.array([0, 2], np.uint16)}, "a token has a centroid that is not there"),
        ({5: np.array([0, 3])}, "the offsets of document 0 do not fit"),
        ({6: np.array([1])}, "there is no document 1"),
    ):
        given_ = dict(enumerate(by_centre)) | change
        with pytest.raises(ValueError, match=message):
            _maxsim.by_centroid(*given_.values())
    residuals, entries = np.zeros((2, 2), np.uint8), np.ones((2, 8, 2, 16), np.uint8)
    query = (levels, entries, np.zeros(4, np.uint16), np.ones(3, np.float32), 0.5, 0, 3)
    held = (codes, residuals, offsets, docs)
    assert _maxsim.scanned(*query, *held).tolist() == [0.5 + 3 * 8]
    for change, message in (
        ({1: np.ones((2, 4, 2, 16), np.uint8)}, "entries must be .vectors / 2, a multiple of 8 halves"),
        ({2: np.zeros(8, np.uint16)}, "with a weight and a step for each vector"),
        ({3: np.ones(5, np.float32)}, "with a weight and a step for each vector"),
        ({5: 1}, "first a multiple of 2"),
        ({6: 4}, "some of 3 vectors"),
        ({8: np.zeros((2, 5), np.uint8)}, "the parts of a coded token do not fit together"),
        ({7: np.array([0, 2], np.uint16)}, "a token has a centroid that is not there"),
    ):
        given_ = dict(enumerate((*query, *held))) | change
        with pytest.raises(ValueError, match=message):
            _maxsim.scanned(*given_.values())
    with pytest.raises(ValueError, match="p at most the number of centroids"):
        _maxsim.probes(np.zeros((2, 32), np.float32), 3, 3)
    with pytest.raises(ValueError, match="must be of one width"):
        _maxsim.products(np.zeros((2, 8), np.uint16), np.zeros((1, 9), np.float32))
    with pytest.raises(ValueError, match="there are no products"):
        _maxsim.leveled(np.zeros((0, 32), np.float32))


def test_a_vector_far_from_its_group_of_centroids_is_compared_with_all() -> None:
    random = np.random.default_rng(2)
    centroids = drawn(random, [1] * 1500, 32, np.float32).values
    vectors = drawn(random, [1] * 400, 32, np.float32).values
    nearest = ((vectors[:, None] - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)
    near = Nearest(centroids)(vectors)
    assert (near != nearest).any()  # groups miss some
    assert np.array_equal(Nearest(centroids, 0.0)(vectors), nearest)
    squares = ((vectors - centroids[near]) ** 2).sum(axis=1)
    far = float(np.median(squares))
    mixed = Nearest(centroids, far)(vectors)
    assert np.array_equal(mixed, np.where(squares > far, nearest, near))


def test_candidates_gain_what_every_query_vector_finds() -> None:
    """Each vector counts a document once, by its best probe; pruned probes and documents that may not count give nothing."""
    offsets, docs = np.array([0, 3, 4, 6]), np.array([0, 1, 2, 1, 2, 3], np.uint32)
    probes = np.array([[0, 1], [2, -1], [1, 2]])
    gains = np.array([[0.5, 0.0], [0.25, 9.0], [1.0, 0.125]], np.float32)
    found = dict(
        zip(*(a.tolist() for a in _maxsim.candidates(offsets, docs, probes, gains, 4, None)), strict=True)
    )
    assert found == {0: 0.5, 1: 1.5, 2: 0.5 + 0.25 + 0.125, 3: 0.25 + 0.125}
    allowed = np.array([0, 0, 1, 1], np.uint8)
    found = dict(
        zip(*(a.tolist() for a in _maxsim.candidates(offsets, docs, probes, gains, 4, allowed)), strict=True)
    )
    assert found == {2: 0.875, 3: 0.375}
    with pytest.raises(ValueError, match="a probe is no centroid"):
        _maxsim.candidates(offsets, docs, np.array([[3]]), np.ones((1, 1), np.float32), 4, None)
    with pytest.raises(ValueError, match="a list holds a document that is not there"):
        _maxsim.candidates(offsets, docs, probes, gains, 3, None)


def test_sums_of_wide_vectors_do_not_overflow() -> None:
    """Where levels and rounded entries are all at their largest: 1,100 numbers of 8 bits, both halves of the range used up."""
    width = 1100
    codec = ResidualCodec(
        np.zeros((2, width), np.float32),
        np.ones(width, np.float32),
        np.arange(256, dtype=np.float32),
        unit=False,
    )
    query = np.ones((1, width), np.float32)
    tables = LookupTables.of(query, codec, 0.0, float(width))
    levels = np.zeros((2, 32), np.uint8)
    levels[1, 0] = 255
    codes, residuals = np.array([0, 1], np.uint16), np.stack([np.zeros(width), np.full(width, 255)])
    found = _maxsim.scanned(
        levels, tables.entries, tables.weights, tables.steps, float(tables.lows[0]), 0, 1, codes, residuals.astype(np.uint8),
        np.array([0, 1, 2]), np.arange(2),
    )  # fmt: skip
    assert found == pytest.approx([0, 2 * 255 * width], abs=0.01 * 2 * 255 * width)


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.0, 1.0))
def test_the_first_vectors_say_who_is_asked_further(seed: int, k: int, bound: float) -> None:
    """Against a plain loop with numpy's least squares; and few are asked further where the first vectors say much."""
    random = np.random.default_rng(seed)
    n = 1500
    scores = np.sort(random.standard_normal((n, 2)).astype(np.float32), axis=0)[::-1].copy()
    first = random.normal(1, 0.5, n).astype(np.float32)
    rest = (bound * first + random.normal(0.5, 0.3, n)).astype(np.float32)
    asked: list[int] = []

    def others(docs: np.ndarray) -> np.ndarray:
        asked.extend(docs.tolist())
        return scores[docs, 1] + rest[docs]

    found, better = _refined(
        np.arange(n), scores.T, [lambda docs: scores[docs, 0] + first[docs], others], k, n
    )
    whole = scores.sum(axis=1, dtype=np.float32)
    kept: list[int] = []
    done = 0
    while done < n:
        best = sorted((scores[kept].sum(axis=1) + first[kept] + rest[kept]).tolist())[-k:]
        chunk = range(done, min(done + CHUNK, n))
        if len(kept) >= FORETOLD:
            slope, height = np.polyfit(first[kept], rest[kept], 1)
            sure = SURE * (rest[kept] - height - slope * first[kept]).std()
            likely = whole + first + height + slope * first + sure
            assume(np.abs(likely[chunk] - best[0]).min() > 1e-5)  # or rounding decides
            kept.extend(i for i in chunk if likely[i] >= best[0])
        else:
            kept.extend(chunk)
        done = chunk.stop
        best = sorted((scores[kept].sum(axis=1) + first[kept] + rest[kept]).tolist())[-k:]
        slope, height = np.polyfit(first[kept], rest[kept], 1)
        around = (rest[kept] - height - slope * first[kept]).var()
        seen = first[:done]
        mean = seen.mean() * (1 + slope) + height
        spread = SURE * np.sqrt((1 + slope) ** 2 * seen.var() + around)
        assume(done >= n or abs(whole[done] + mean + spread - best[0]) > 1e-5)
        if done < n and len(kept) >= max(k, LEARNED) and whole[done] + mean + spread < best[0]:
            break
    assert found.tolist() == asked == kept
    np.testing.assert_allclose(better, whole[kept] + first[kept] + rest[kept], atol=1e-5)
    assert done <= FORETOLD or len(kept) < done


def test_a_third_of_the_vectors_comes_first() -> None:
    assert [_begun(n, 2) for n in (1, 2, 3, 6, 28, 32, 320)] == [1, 2, 2, 2, 10, 10, 106]
    assert [_begun(n, 16) for n in (1, 16, 17, 32, 320)] == [1, 16, 16, 16, 112]


def test_no_document_is_wanted() -> None:
    scores = np.arange(300, dtype=np.float32)
    found, better = _refined(np.arange(300), scores[None], [lambda some: scores[some]], 0, 300)
    assert found.shape == better.shape == (0,)


def test_copies_of_a_document_do_not_hide_a_better_one() -> None:
    """128 copies come first and gain nothing; the best document comes after them."""
    random = np.random.default_rng(1)
    scores = np.concatenate([np.full(128, 5.0), random.uniform(3, 4.9, 800)]).astype(np.float32)
    true = scores + np.concatenate([np.zeros(128), random.normal(0, 0.5, 800)]).astype(np.float32)
    true[scores.argsort()[-140]] = 9
    found, better = _refined(np.arange(928), scores[None], [lambda some: true[some]], 10, 928)
    assert found[better.argmax()] == true.argmax()


def test_better_scores_and_scores_must_be_as_many() -> None:
    two, three = np.zeros(2, np.float32), np.zeros(3, np.float32)
    for work in (
        lambda refinement: refinement.learn(two, three, None),
        lambda refinement: refinement.learn(two, two, three),
        lambda refinement: refinement.begin(two, three, two, 3.0, 1),
        lambda refinement: refinement.begin(three, two, two, 3.0, 1),
    ):
        with pytest.raises(ValueError, match="must be as many"):
            work(_maxsim.Refinement(3))
