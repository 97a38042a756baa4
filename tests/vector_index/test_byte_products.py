"""MaxSim of coded tokens by products of bytes agrees with loops in numpy, stays near decoded tokens, and refuses what does not fit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_twins import clustered, drawn

from gemkr.interfaces import TokenVectors
from gemkr.vector_index import _maxsim
from gemkr.vector_index.byte_products import ByteProducts
from gemkr.vector_index.centroid_search import SCAN
from gemkr.vector_index.lookup_tables import LookupTables
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_parts import Part


def test_the_processor_decides_how_codes_are_scored() -> None:
    assert (SCAN is ByteProducts) == _maxsim.multiplies_bytes()


@settings(max_examples=30)
@given(
    st.integers(0, 1000),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([8, 20, 36, 128]),
    st.sampled_from([1, 31, 70]),
)
def test_products_of_bytes_agree_with_loops(seed: int, bits: int, width: int, vectors: int) -> None:
    random = np.random.default_rng(seed)
    tokens = clustered(random, 12, width)
    codec = ResidualCodec.learned(tokens.values, 6, bits)
    part = Part.of(tokens, codec)
    query = drawn(random, [vectors], width, np.float32).values
    levels, low, step = _maxsim.leveled(_maxsim.products(codec.half_centroids, query))
    bytes_ = ByteProducts.of(query, codec, low, step)
    docs = random.permutation(12)[:7]
    first, last = 16 * (vectors // 48), vectors - vectors // 7
    found = bytes_.scores(levels, part, docs, first, last)
    sums = (
        _multiplied(bytes_, part.residuals)
        + levels[part.codes, :vectors].astype(int) * bytes_.weights[:vectors]
    )
    for doc, ours in zip(docs.tolist(), found, strict=True):
        own = slice(*tokens.offsets[doc : doc + 2])
        if own.start == own.stop:
            assert ours == -np.inf
        else:
            each = bytes_.lows + sums[own].max(axis=0) * bytes_.steps
            assert ours == pytest.approx(each[first:last].sum(), abs=1e-3)


def _multiplied(query: ByteProducts, residuals: np.ndarray) -> np.ndarray:
    """int[tokens, vectors]: sums of products of bytes."""
    planes = len(query.values)
    low, high = query.values[:, 0, residuals & 15].astype(int), query.values[:, 1, residuals >> 4].astype(int)
    numbers = np.moveaxis(low + high, 0, 1)  # tokens, planes, bytes
    vectors = query.vectors.swapaxes(1, 2).reshape(query.vectors.shape[0] * 32, planes, -1).astype(int)
    assert not vectors[:, :, residuals.shape[1] :].any()
    assert not vectors[len(query.steps) :].any()
    return np.einsum("tpc,vpc->tv", numbers, vectors[: len(query.steps), :, : residuals.shape[1]])


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("width", [8, 20, 128])
def test_they_are_nearer_to_decoded_tokens_than_tables(bits: int, width: int) -> None:
    """Over documents of one token and queries of one vector, so that every product shows."""
    random = np.random.default_rng(bits * width)
    values = clustered(random, 12, width).values
    tokens = TokenVectors(values, np.arange(len(values) + 1))
    learned = ResidualCodec.learned(values, 6, bits)
    codec = ResidualCodec(learned.centroids, learned.scales, learned.levels, unit=False)
    part = Part.of(tokens, codec)
    decoded = codec.decoded(part.codes, part.residuals)
    errors: dict[type, list[float]] = {ByteProducts: [], LookupTables: []}
    for query in drawn(random, [1] * 8, width, np.float32).values[:, None]:
        levels, low, step = _maxsim.leveled(_maxsim.products(codec.half_centroids, query))
        for kind, found in errors.items():
            scores = kind.of(query, codec, low, step).scores(levels, part, np.arange(len(values)), 0, 1)
            found.append(float(np.abs(scores - (decoded @ query[0])).mean()))
    assert np.mean(errors[ByteProducts]) < 1.05 * np.mean(errors[LookupTables])
    assert np.mean(errors[ByteProducts]) < (0.05 if bits == 8 else 0.01)


def test_codes_that_say_nothing_leave_centroids_products() -> None:
    """Vectors that are centroids have residuals of 0, and so steps of their own as small as may be."""
    random = np.random.default_rng(4)
    centroids = drawn(random, [1] * 6, 16, np.float32).values
    codec = ResidualCodec(centroids, np.zeros(16, np.float32), np.array([-1, -0.5, 0.5, 1], np.float32), True)
    part = Part.of(TokenVectors(centroids, np.arange(7)), codec)
    query = drawn(random, [3], 16, np.float32).values
    levels, low, step = _maxsim.leveled(_maxsim.products(codec.half_centroids, query))
    bytes_ = ByteProducts.of(query, codec, low, step)
    assert bytes_.weights[:3].tolist() == [32767] * 3
    found = bytes_.scores(levels, part, np.arange(6), 0, 3)
    assert found == pytest.approx((centroids @ query.T).sum(axis=1), abs=2 * step)


@pytest.mark.parametrize("kind", [ByteProducts, LookupTables])
@pytest.mark.parametrize("scale", [1e-37, 1e-40, 1e-43])
def test_queries_of_the_smallest_numbers(kind: type[ByteProducts | LookupTables], scale: float) -> None:
    """Levels, weights and steps stay finite where 1 / step would not be, nothing overflows, and no score is far off."""
    random = np.random.default_rng(5)
    tokens = clustered(random, 12, 16)
    codec = ResidualCodec.learned(tokens.values, 6, 4)
    part = Part.of(tokens, codec)
    query = drawn(random, [3], 16, np.float32).values * np.float32(scale)
    products = _maxsim.products(codec.half_centroids, query)
    with np.errstate(divide="raise", invalid="raise"):
        levels, low, step = _maxsim.leveled(products)
        scan = kind.of(query, codec, low, step)
    assert np.isfinite(1 / np.float32(step))
    assert levels.max() == 255 or levels.max() * step == pytest.approx(np.ptp(products), abs=2 * step)
    assert (scan.weights.astype(int) >= 0).all()
    found = scan.scores(levels, part, np.arange(1, 12), 0, 3)
    decoded = codec.decoded(part.codes, part.residuals) @ query.T
    exact = [decoded[start:stop].max(axis=0).sum() for start, stop in pairwise(tokens.offsets[1:].tolist())]
    assert found == pytest.approx(exact, abs=6 * max(step, scale / 100))


def test_what_does_not_fit_is_refused() -> None:
    levels, docs = np.zeros((2, 32), np.uint8), np.array([0])
    query = (levels, np.ones((1, 32, 32, 4), np.int8), np.ones((4, 2, 16), np.uint8), np.zeros(32, np.int16), np.ones(3, np.float32), 0.5, 0, 3)  # fmt: skip
    held = (np.array([0, 1], np.uint16), np.zeros((2, 2), np.uint8), np.array([0, 2]), docs)
    assert _maxsim.multiplied(*query, *held).tolist() == [0.5 + 3 * 128]
    for change, message in (
        (
            {1: np.ones((1, 16, 32, 4), np.int8)},
            "vectors must be .groups of 32, planes . bytes of a residual",
        ),
        ({1: np.ones((2, 32, 32, 4), np.int8)}, "vectors must be .groups of 32"),
        ({2: np.ones((3, 2, 16), np.uint8)}, "a byte holds 1, 2 or 4 numbers"),
        ({2: np.ones((4, 2, 8), np.uint8)}, "values must be .planes, 2, 16."),
        ({3: np.zeros(31, np.int16)}, "with a weight for each"),
        ({9: np.zeros((3, 2), np.uint8)}, "the parts of a coded token do not fit together"),
        ({8: np.array([0, 2], np.uint16)}, "a token has a centroid that is not there"),
        ({10: np.array([0, 3])}, "the offsets of document 0 do not fit"),
        ({6: 8}, "first a multiple of 16"),
        ({7: 4}, "some of 3 vectors"),
        ({11: np.array([1])}, "there is no document 1"),
    ):
        given_ = dict(enumerate((*query, *held))) | change
        with pytest.raises(ValueError, match=message):
            _maxsim.multiplied(*given_.values())
