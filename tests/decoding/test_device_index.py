"""The index as tensors: the same spans, sets and clues as the index on the host (checked on CPU tensors)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.decoding.beam import beam_search
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import IndexConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.matcher import ClueMatcher
from gemkr.fm_index import FMIndex
from gemkr.testing import RandomLM, TableLM

CORPORA = st.lists(st.lists(st.integers(0, 36), max_size=12), min_size=1, max_size=6).filter(any)


@settings(deadline=None)
@given(docs=CORPORA, block=st.sampled_from([1, 2, 4, 64]), data=st.data())
def test_spans_sets_and_ends_are_those_of_the_host(docs, block, data) -> None:
    index = FMIndex.build(docs, vocab_size=40)
    device = DeviceIndex.build(index, "cpu", block=block)
    slices = [d[i:j] for d in docs for i in range(len(d)) for j in range(i, len(d) + 1)]
    clues = data.draw(st.lists(st.sampled_from(slices), min_size=1, max_size=8))
    tokens = data.draw(st.lists(st.integers(0, 39), min_size=len(clues), max_size=len(clues)))
    spans = [index.search(clue) for clue in clues]
    lo, hi = (np.array(side, dtype=np.int64) for side in zip(*[(s.lo, s.hi) for s in spans]))
    here = index.extend_many(lo, hi, np.array(tokens))
    there = device.extend(torch.from_numpy(lo), torch.from_numpy(hi), torch.tensor(tokens))
    for i in range(len(clues)):
        width = int(here[1][i] - here[0][i])
        assert int(there[1][i] - there[0][i]) == max(width, 0)
        if width > 0:
            assert int(there[0][i]) == here[0][i]
    indptr, allowed, _ = index.next_tokens_many(lo, hi)
    mask = device.mask(torch.from_numpy(lo), torch.from_numpy(hi))
    ends = device.count_ends(torch.from_numpy(lo), torch.from_numpy(hi))
    for i, span in enumerate(spans):
        assert mask[i].nonzero().flatten().tolist() == allowed[indptr[i] : indptr[i + 1]].tolist()
        if clues[i]:
            assert int(ends[i]) == index.count_ends(span)


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


@pytest.mark.gpu
def test_the_same_clues_on_a_gpu() -> None:
    rng = np.random.default_rng(0)
    docs = [rng.zipf(1.5, size=30).clip(0, 59).tolist() for _ in range(40)]
    index = FMIndex.build(docs, vocab_size=60)
    host, device = DeviceIndex.build(index, "cpu", block=16), DeviceIndex.build(index, "cuda", block=16)
    lo, hi = torch.tensor([0, 5, 100]), torch.tensor([index.root.hi, 9, 300])
    assert torch.equal(host.mask(lo, hi), device.mask(lo.cuda(), hi.cuda()).cpu())
