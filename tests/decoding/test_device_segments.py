"""An index in segments, some of its documents deleted, as tensors: what the host's index, the naive twin and fresh indexes say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_twin import VOCAB, patterns_of, segmented
from test_device_search import EOS, PLAIN, Random, Ties, plain
from torch.utils._python_dispatch import TorchDispatchMode

from gemkr.decoding.beam import TAIL, beam_search
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import IndexConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.device_search import DeviceSearch
from gemkr.decoding.live_rows import LiveRows
from gemkr.decoding.matcher import ClueMatcher
from gemkr.errors import DecodingError
from gemkr.fm_index import FMIndex, IndexQueryError, SegmentedIndex, Span

DOCS = st.lists(st.lists(st.integers(0, 4) | st.integers(0, VOCAB - 1), max_size=8), min_size=1, max_size=12)
RULES = {
    "reference": DecodingConfig(batch_size=4),
    "plain": PLAIN,
    "documents": DecodingConfig(
        groups=1, length_penalty=0.0, stop_at_one_document=True, document_penalty=1.0
    ),
    "only ends": DecodingConfig(groups=1, length_penalty=0.0, allow_eos=False),
}


@settings(deadline=None)
@given(docs=DOCS, block=st.sampled_from([1, 2, 4, 64]), data=st.data())
def test_sets_ends_and_counts_are_those_of_the_host_and_of_the_twin(docs, block, data) -> None:
    gone = data.draw(st.lists(st.integers(0, 2), min_size=len(docs), max_size=len(docs)))
    parts = data.draw(st.lists(st.integers(0, len(docs)), min_size=1, max_size=3))
    index, twin = segmented(docs, parts, gone)
    if not len(index):
        with pytest.raises(DecodingError, match="holds no documents"):
            DeviceIndex.build(index, "cpu", block=block)
        return
    device = DeviceIndex.build(index, "cpu", block=block)
    patterns = patterns_of(docs)
    spans, expected = [index.search(p) for p in patterns], [twin.search(p) for p in patterns]
    lo, hi = np.array([(s.lo, s.hi) for s in spans], np.int64).T
    ranges = device.ranges(lo, hi)
    assert ranges.shape == (2, len(patterns), len(device.starts) - 1)
    assert (ranges[1] - ranges[0]).sum(dim=1).tolist() == [s.count for s in expected]
    indptr, allowed, _ = index.next_tokens_many(lo, hi)
    mask, ends = device.mask(*ranges), device.at_end(*ranges)
    for i, span in enumerate(expected):
        here = mask[i].nonzero().flatten().tolist()
        assert here == allowed[indptr[i] : indptr[i + 1]].tolist() == twin.next_tokens(span)[0].tolist()
        if patterns[i]:
            assert bool(ends[i]) == (index.count_ends(spans[i]) > 0) == (twin.count_ends(span) > 0)
    tokens = torch.arange(VOCAB).expand(len(patterns), -1)
    wide = [side.unsqueeze(1).expand(-1, VOCAB, -1) for side in ranges]
    longer_lo, longer_hi = device.extend(*wide, tokens)
    counts = (longer_hi - longer_lo).sum(dim=2)
    for i, span in enumerate(expected):
        follow, times = twin.next_tokens(span)
        assert counts[i].nonzero().flatten().tolist() == follow.tolist()
        assert counts[i, follow].tolist() == times.tolist()
        for token in follow.tolist():
            host = index.extend(spans[i], token)
            right = device.ranges(np.array([host.lo]), np.array([host.hi]))[:, 0]
            there = right[0] < right[1]
            assert torch.equal(there, longer_lo[i, token] < longer_hi[i, token])
            assert torch.equal(right[0][there], longer_lo[i, token][there])
            assert torch.equal(right[1][there], longer_hi[i, token][there])
    again = device.rows.spans(ranges.numpy(), patterns)
    np.testing.assert_array_equal(again, [lo, hi])


@given(docs=DOCS, data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_rows_are_those_of_fresh_indexes_of_the_live_documents(docs, data) -> None:
    gone = data.draw(st.lists(st.integers(0, 2), min_size=len(docs), max_size=len(docs)))
    gone[data.draw(st.integers(0, len(docs) - 1))] = 0
    parts = sorted(set(data.draw(st.lists(st.integers(0, len(docs)), max_size=3))) | {len(docs)})
    index, _ = segmented(docs, parts, gone)
    fresh = [
        [docs[d] for d in range(start, end) if not gone[d]]
        for start, end in zip([0, *parts[:-1]], parts, strict=True)
    ]
    kept = [FMIndex.build(each, vocab_size=VOCAB, threads=1) for each in fresh if each]
    live, follow, first = LiveRows.read(index)
    np.testing.assert_array_equal(live.places, [s for s, each in enumerate(fresh) if each])
    every = [LiveRows.read(each) for each in kept]
    np.testing.assert_array_equal(live.starts, np.cumsum([0, *(len(f) for _, f, _ in every)]))
    np.testing.assert_array_equal(follow, np.concatenate([f for _, f, _ in every]))
    for s, (_, _, alone) in enumerate(every):
        held = [t for t in range(VOCAB) if kept[s].search([t])]
        np.testing.assert_array_equal(first[held, s], alone[held, 0] + live.starts[s])


def corpus(seed: int) -> tuple[SegmentedIndex, FMIndex]:
    """A skewed corpus in five segments and a fresh index of what is left: one segment is deleted whole, and all documents that hold
    any of three tokens."""
    rng = np.random.default_rng(seed)
    docs = [(3 + rng.zipf(1.35, rng.integers(0, 60)) % 57).tolist() for _ in range(150)]
    docs[60] = [3, 4, 5]
    gone = [1 if 40 <= d < 60 else 2 if {41, 47, 53} & set(doc) else 0 for d, doc in enumerate(docs)]
    index, _ = segmented(docs, [40, 60, 61, 110], gone, 60)
    live = [doc for doc, g in zip(docs, gone, strict=True) if not g]
    assert 20 < len(live) < 130
    return index, FMIndex.build(live, vocab_size=60)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [4, 32])
def test_every_short_clue_of_a_larger_corpus(seed: int, block: int) -> None:
    """From the root by the device's own ranges: every clue of up to three tokens that a live document holds, and no other."""
    index, fresh = corpus(seed)
    device = DeviceIndex.build(index, "cpu", block=block)
    assert len(device.starts) - 1 == 4
    lo, hi = device.starts[:-1][None], device.starts[1:][None]
    spans = np.array([[fresh.root.lo], [fresh.root.hi]])
    for _ in range(3):
        indptr, tokens, counts = fresh.next_tokens_many(*spans)
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        found = device.mask(lo, hi).nonzero().numpy().T
        np.testing.assert_array_equal(found, [rows, tokens])
        rows = torch.from_numpy(rows)
        lo, hi = device.extend(lo[rows], hi[rows], torch.from_numpy(tokens))
        assert (hi - lo).sum(dim=1).tolist() == counts.tolist()
        assert (lo <= hi).all()
        spans = np.stack(fresh.extend_many(*spans[:, rows.numpy()], tokens))
        ends = [fresh.count_ends(fresh.root.__class__(*span)) > 0 for span in spans.T.tolist()]
        assert device.at_end(lo, hi).tolist() == ends
    assert len(lo) > 1000


@pytest.mark.parametrize("how", RULES.values(), ids=RULES)
@pytest.mark.parametrize("ties", [False, True])
def test_clues_of_a_larger_corpus_are_those_of_the_host(how: DecodingConfig, ties: bool) -> None:
    index, fresh = corpus(7)
    model = Ties(64, (EOS, 63), 1) if ties else Random(64, (EOS, 63), seed=1)
    prompts = [str(i) for i in range(6)]
    rules = {"stop_tokens": (EOS, 63), "min_tokens": how.min_tokens, "allow_eos": how.allow_eos}
    matcher, over_fresh = ClueMatcher(index, **rules), ClueMatcher(fresh, **rules)
    here = beam_search(model, IndexConstraint(matcher, (EOS, 63)), prompts, how)
    constraint = DeviceConstraint(DeviceIndex.build(index, "cpu", block=8), matcher, (EOS, 63))
    assert beam_search(model, constraint, prompts, how) == here
    index._core.forget()
    assert beam_search(model, constraint, prompts, how) == here
    if how.stop_at_one_document:
        return
    search = DeviceSearch(model, constraint, how, tail=TAIL)
    assert plain(search.run(prompts[:4]) + search.run(prompts[4:])) == plain(here)
    again = beam_search(model, IndexConstraint(over_fresh, (EOS, 63)), prompts, how)
    assert [[(c.tokens, c.score, c.hi - c.lo) for c in found] for found in here] == [
        [(c.tokens, c.score, c.hi - c.lo) for c in found] for found in again
    ]


class Operations(TorchDispatchMode):
    """Counts what is computed; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.made: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.made[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operations(index: FMIndex | SegmentedIndex) -> tuple[Counter[str], tuple[int, ...]]:
    """What a step behind the model makes, and the shape of the beams' ranges."""
    matcher = ClueMatcher(index, stop_tokens=(EOS,))
    constraint = DeviceConstraint(DeviceIndex.build(index, "cpu", block=4), matcher, (EOS,))
    search = DeviceSearch(Random(64, (EOS,)), constraint, PLAIN, tail=TAIL)
    search.run(["a", "b"])
    room, _ = search._rooms[2]
    room.slots.step = lambda tokens, parents: torch.zeros(tokens.numel(), 64)
    with torch.inference_mode():
        search._begin(room, torch.zeros(2, 64))
        with Operations() as counted:
            search._advance(room)
    return counted.made, tuple(room.live.lo.shape)


def test_one_segment_costs_what_an_index_without_segments_does() -> None:
    rng = np.random.default_rng(0)
    docs = [rng.integers(3, VOCAB, 20).tolist() for _ in range(12)]
    alone, shape = operations(FMIndex.build(docs, vocab_size=VOCAB))
    assert shape == (2, 4, 1)
    one, shape = operations(segmented(docs, [], [0, 1] * 6)[0])
    assert (one, shape) == (alone, (2, 4, 1))
    four, shape = operations(segmented(docs, [3, 6, 9], [0, 1, 0] * 4)[0])
    assert shape == (2, 4, 4)
    assert four - alone == {"aten.bitwise_or.Tensor": 3}
    assert alone - four == {}


class Shards:
    """An index that refuses a range of rows, as `ShardedIndex` does."""

    vocab_size, root = 7, Span(0, 5)

    def next_tokens_many(self, lo: np.ndarray, hi: np.ndarray) -> tuple:
        raise IndexQueryError("not one of a pattern of these shards")


def test_what_a_device_cannot_hold_is_refused() -> None:
    with pytest.raises(DecodingError, match="holds no documents"):
        DeviceIndex.build(SegmentedIndex([], vocab_size=7), "cpu")
    with pytest.raises(DecodingError, match="this one has shards; use the index on the host"):
        DeviceIndex.build(Shards(), "cpu")
    large = Shards()
    large.root = Span(0, 2**31)
    with pytest.raises(DecodingError, match=r"has rows \[0, 2147483648\); use the index on the host"):
        DeviceIndex.build(large, "cpu")
