"""The index as tensors: the same sets and clues as the index on the host (checked on CPU tensors), and waits that are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_twin import segmented

from gemkr.decoding import logits as choose
from gemkr.decoding.beam import beam_search
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import IndexConstraint, NoConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.logits import normalizer
from gemkr.decoding.matcher import ClueMatcher
from gemkr.fm_index import FMIndex
from gemkr.testing import RandomLM, TableLM

CORPORA = st.lists(st.lists(st.integers(0, 36), max_size=12), min_size=1, max_size=6).filter(any)


@settings(deadline=None)
@given(docs=CORPORA, block=st.sampled_from([1, 2, 4, 64]), data=st.data())
def test_sets_and_ends_are_those_of_the_host(docs, block, data) -> None:
    index = FMIndex.build(docs, vocab_size=40)
    device = DeviceIndex.build(index, "cpu", block=block)
    slices = [d[i:j] for d in docs for i in range(len(d)) for j in range(i, len(d) + 1)]
    clues = data.draw(st.lists(st.sampled_from(slices), min_size=1, max_size=8))
    spans = [index.search(clue) for clue in clues]
    lo, hi = (np.array(side, dtype=np.int64) for side in zip(*[(s.lo, s.hi) for s in spans]))
    indptr, allowed, _ = index.next_tokens_many(lo, hi)
    mask = device.mask(*device.ranges(lo, hi))
    ends = device.at_end(*device.ranges(lo, hi))
    for i, span in enumerate(spans):
        assert mask[i].nonzero().flatten().tolist() == allowed[indptr[i] : indptr[i + 1]].tolist()
        if clues[i]:
            assert bool(ends[i]) == (index.count_ends(span) > 0)
    tokens = np.array(data.draw(st.lists(st.integers(0, 39), min_size=len(clues), max_size=len(clues))))
    longer = [side[:, 0].numpy() for side in device.extend(*device.ranges(lo, hi), torch.from_numpy(tokens))]
    expected = [np.asarray(side) for side in index.extend_many(lo, hi, tokens)]
    there = expected[0] < expected[1]
    np.testing.assert_array_equal(longer[0] < longer[1], there)
    for side, right in zip(longer, expected, strict=True):
        np.testing.assert_array_equal(side[there], right[there])


@pytest.mark.parametrize(
    "how",
    [
        DecodingConfig(batch_size=4),
        DecodingConfig(groups=1, diversity=0.0, length_penalty=0.0, min_tokens=3),
        DecodingConfig(groups=1, length_penalty=0.0, allow_eos=False, stop_at_one_document=True),
    ],
    ids=["reference", "plain", "one document"],
)
@pytest.mark.parametrize("fake", ["random", "ties"])
def test_clues_are_those_of_the_host(how, fake) -> None:
    rng = np.random.default_rng(0)
    docs = [rng.zipf(1.5, size=30).clip(0, 59).tolist() for _ in range(40)]
    index = FMIndex.build(docs, vocab_size=60)
    if fake == "random":
        model = RandomLM(64, (2, 63), seed=4)
    else:
        model = TableLM(rng.normal(size=(64, 64)).round().astype(np.float32), (2, 63))
    matcher = ClueMatcher(index, stop_tokens=(2, 63), min_tokens=how.min_tokens, allow_eos=how.allow_eos)
    prompts = [f"{i}" for i in range(6)]
    here = beam_search(model, IndexConstraint(matcher, (2, 63)), prompts, how)
    device = DeviceIndex.build(index, "cpu", block=16)
    there = beam_search(model, DeviceConstraint(device, matcher, (2, 63)), prompts, how)
    assert there == here
    assert (
        beam_search(model, DeviceConstraint(device, matcher, (2, 63)), prompts, replace(how, batch_size=1))
        == here
    )


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("where", ["host", "device", "none", "segments"])
def test_a_step_waits_for_its_device_once(where: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device there are no values, so that whatever would fetch one raises, but what is counted here."""
    rng = np.random.default_rng(0)
    docs = [rng.integers(0, 60, 30).tolist() for _ in range(40)]
    index = FMIndex.build(docs, vocab_size=60)
    if where == "segments":
        index, _ = segmented(docs, [10, 20, 30], [0, 0, 1, 2] * 10, 60)
    matcher = ClueMatcher(index, stop_tokens=(2, 63), min_tokens=2)
    there = DeviceIndex.build(index, "cpu", block=16)
    moved = there.to("meta")
    constraint = {
        "host": lambda: IndexConstraint(matcher, (2, 63)),
        "device": lambda: DeviceConstraint(moved, matcher, (2, 63)),
        "segments": lambda: DeviceConstraint(moved, matcher, (2, 63)),
        "none": lambda: NoConstraint((2, 63), 2),
    }[where]()
    shapes: list[list[tuple[int, ...]]] = []

    def fetched(*parts: torch.Tensor) -> list[np.ndarray]:
        assert all(part.is_meta for part in parts)
        assert choose.packed(parts).dtype == torch.int32
        shapes.append([tuple(part.shape) for part in parts])
        return [torch.zeros(part.shape, dtype=part.dtype).numpy() for part in parts]

    monkeypatch.setattr(choose, "fetched", fetched)
    lo, hi = constraint.start(5)
    for _ in range(length):
        lo, hi = constraint.extend(lo, hi, np.array([3, 4, 5, 6, 7]))
    logits = torch.zeros(5, 64, device="meta", dtype=torch.bfloat16)
    constraint.candidates(logits, normalizer(logits), lo, hi, np.array([3, 4, 5, 6, 7]), length, 8)
    assert len(shapes) == 1
    assert shapes[0][:2] == [(5, 8), (5, 8)]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_what_is_fetched_together_is_what_was_there(n: int, k: int, seed: int) -> None:
    torch.manual_seed(seed)
    scores = torch.randn(n, k).masked_fill(torch.rand(n, k) < 0.2, -torch.inf)
    scores[0, 0] = torch.nan
    parts = scores, torch.randint(0, 2**31 - 1, (n, k)), torch.randn(n), torch.rand(n) < 0.5
    found = choose.unpacked(choose.packed(parts).numpy(), parts)
    for part, array in zip(parts, found, strict=True):
        assert array.dtype == part.numpy().dtype
        np.testing.assert_array_equal(array, part.numpy())


@pytest.mark.gpu
def test_the_same_clues_on_a_gpu() -> None:
    rng = np.random.default_rng(0)
    docs = [rng.zipf(1.5, size=30).clip(0, 59).tolist() for _ in range(40)]
    index = FMIndex.build(docs, vocab_size=60)
    host, device = DeviceIndex.build(index, "cpu", block=16), DeviceIndex.build(index, "cuda", block=16)
    lo, hi = torch.tensor([0, 5, 100]), torch.tensor([index.root.hi, 9, 300])
    lo, hi = lo[:, None], hi[:, None]
    assert torch.equal(host.mask(lo, hi), device.mask(lo.cuda(), hi.cuda()).cpu())
    matcher = ClueMatcher(index, stop_tokens=(2, 63))
    logits, last = torch.randn(3, 64), np.array([1, 3, 4])
    spans, norm = matcher.extend(*matcher.start(3), last), normalizer(logits)
    here = IndexConstraint(matcher, (2, 63)).candidates(logits, norm, *spans, last, 1, 8)
    there = DeviceConstraint(device, matcher, (2, 63)).candidates(
        logits.cuda(), norm.cuda(), *spans, last, 1, 8
    )
    np.testing.assert_array_equal(here.log_probs, there.log_probs)
    np.testing.assert_array_equal(here.tokens, there.tokens)
    np.testing.assert_allclose(here.end, there.end, rtol=1e-6)
    np.testing.assert_array_equal(here.whole, there.whole)
