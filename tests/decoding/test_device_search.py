"""Searches that stay on the device: the same clues as on the host, to the last digit, from tensors that stay where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_twin import segmented

from gemkr.decoding.beam import TAIL, beam_search, generate_clues, put_on_device
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import IndexConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.device_search import DeviceSearch
from gemkr.decoding.hypotheses import Finished
from gemkr.decoding.matcher import ClueMatcher
from gemkr.decoding.queued import Glance, Recorded
from gemkr.errors import DecodingError, ModelError
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.gemkr.slots import Slots
from gemkr.models.hf.llm import LLM
from gemkr.testing import RandomLM, TableLM
from gemkr.text.borders import Borders

EOS, VOCAB = 2, 10
PLAIN = DecodingConfig(beam_size=4, groups=1, diversity=0.0, length_penalty=0.0, max_tokens=5, batch_size=3)
CORPORA = st.lists(st.lists(st.sampled_from([0, 1, 3, 4, 5, 6]), max_size=12), min_size=1, max_size=5).filter(
    any
)


class FakeSlots:
    """The slots of a model without a cache."""

    def __init__(self, model: Any, queries: int, beams: int) -> None:
        self.model, self.queries, self.beams = model, queries, beams

    def fits(self, state: Any) -> bool:
        return True

    def begin(self, state: Any) -> None:
        self.prompts = len(state.rows) if hasattr(state, "rows") else len(state.bias)
        self.state = state.select(torch.arange(self.prompts).repeat_interleave(self.beams))

    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        own = torch.arange(self.prompts)[:, None] * self.beams + parents[: self.prompts]
        logits, self.state = self.model.step(
            tokens[: self.prompts].flatten(), self.state.select(own.flatten())
        )
        missing = self.queries - self.prompts
        return torch.cat([logits, torch.zeros(missing * self.beams, self.model.vocab_size)])


class Random(RandomLM):
    def slots(self, state: Any, queries: int, beams: int, steps: int) -> FakeSlots:
        return FakeSlots(self, queries, beams)


class Ties(TableLM):
    """Many equal logits."""

    def __init__(self, vocab: int, eos: tuple[int, ...], seed: int) -> None:
        super().__init__(np.random.default_rng(seed).normal(size=(vocab, vocab)).round(), eos)

    def slots(self, state: Any, queries: int, beams: int, steps: int) -> FakeSlots:
        return FakeSlots(self, queries, beams)


def plain(results: list[list[Finished]]) -> list:
    """All but heads, which only searches by heads need."""
    return [[(c.tokens, c.log_prob, c.total, c.score, c.lo, c.hi) for c in found] for found in results]


@settings(deadline=None, max_examples=250)
@given(
    docs=CORPORA,
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
    shape=st.sampled_from([(10, 10), (10, 5), (6, 2), (4, 1), (1, 1)]),
    diversity=st.sampled_from([0.0, 0.3, 0.5, 2.0]),
    max_tokens=st.integers(1, 6),
    min_tokens=st.integers(1, 3),
    length_penalty=st.sampled_from([1.5, 1.0, 0.0, -0.5]),
    allow_eos=st.booleans(),
    words=st.none() | st.tuples(*[st.lists(st.integers(0, 2), min_size=VOCAB, max_size=VOCAB)] * 2),
    starts=st.booleans(),
    segments=st.none() | st.tuples(*[st.lists(st.integers(0, 2), min_size=5, max_size=5)] * 2),
)
def test_clues_are_those_of_the_host(
    docs,
    seed,
    ties,
    shape,
    diversity,
    max_tokens,
    min_tokens,
    length_penalty,
    allow_eos,
    words,
    starts,
    segments,
) -> None:
    """Over one index, or over up to four segments without some of their documents."""
    if segments is None:
        index = FMIndex.build(docs, vocab_size=VOCAB)
    else:
        ends, gone = (np.cumsum(segments[0]).tolist(), segments[1][: len(docs)])
        index, _ = segmented(docs, ends, gone, VOCAB)
    every, borders = np.ones(VOCAB, bool), None
    if words is not None:
        first, last = (np.array(side, np.int8) for side in words)
        borders = Borders(first, last, every, every)
    how = DecodingConfig(
        beam_size=shape[0], groups=shape[1], diversity=diversity, max_tokens=max_tokens, length_penalty=length_penalty,
        min_tokens=min(min_tokens, max_tokens), allow_eos=allow_eos, batch_size=8, word_start=starts,
    )  # fmt: skip
    model = Ties(VOCAB, (EOS,), seed) if ties else Random(VOCAB, (EOS,), seed=seed)
    word_start = np.arange(VOCAB) % 2 == 1
    try:
        matcher = ClueMatcher(
            index, word_start=word_start if starts else None, stop_tokens=(EOS,), min_tokens=how.min_tokens,
            allow_eos=allow_eos, borders=borders,
        )  # fmt: skip
    except DecodingError:
        return
    prompts = list("abcde")
    here = beam_search(model, IndexConstraint(matcher, (EOS,)), prompts, how)
    device = DeviceConstraint(DeviceIndex.build(index, "cpu", block=4), matcher, (EOS,))
    search = DeviceSearch(model, device, how, tail=TAIL)
    there = search.run(prompts[:3]) + search.run(prompts[3:])
    assert plain(there) == plain(here)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("engine", ["device", "graph"])
@pytest.mark.parametrize("rules", [{}, {"group_by_head": True}, {"document_penalty": 5.0}])
def test_every_engine_writes_the_same_clues(engine: str, rules: dict, segments: bool) -> None:
    index = in_segments(60) if segments else text_like(60)
    model, starts = Random(64, (2, 63), seed=4), np.arange(60) % 3 > 0
    host = replace(PLAIN, **rules)
    here = generate_clues(model, index, list("abcd"), host, word_start=starts)
    assert put_on_device(model, index, host, word_start=starts) is None
    how = replace(host, engine=engine)
    there = put_on_device(model, index, how, word_start=starts)
    assert (there.search is None) == bool(rules)
    assert generate_clues(model, index, list("abcd"), how, word_start=starts, on_device=there) == here
    looked = []
    watched = generate_clues(
        model, index, list("abcd"), how, word_start=starts, on_device=there, watch=lambda n, _: looked.append(n) or True
    )  # fmt: skip
    assert watched == here
    assert set(looked) == {0, 1, 2, 3}


def llama(device: str = "cpu", layers: int = 2) -> LLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    with torch.device(device):
        return LLM(LlamaForCausalLM(config).eval())


class Prompted:
    """A `SlottedModel` over prompts that are lists of tokens."""

    eos_token_ids, vocab_size = (2,), 64

    def __init__(self, llm: LLM, device: str = "cpu") -> None:
        self.llm, self.device = llm, torch.device(device)

    def prefill(self, prompts: list[list[int]]) -> tuple[torch.Tensor, BranchState]:
        width = max(map(len, prompts))
        tokens = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        logits, state = self.llm.prefill(self.llm.embed(tokens), mask)
        return logits, BranchState.root(state)

    def step(self, tokens: torch.Tensor, state: BranchState) -> tuple[torch.Tensor, BranchState]:
        from gemkr.models.gemkr import branches

        return branches.step(self.llm, tokens, state)

    def slots(self, state: BranchState, queries: int, beams: int, steps: int) -> Slots:
        return Slots(self.llm, state, queries, beams, steps)


def text_like(vocab: int) -> FMIndex:
    rng = np.random.default_rng(1)
    return FMIndex.build(
        [rng.zipf(1.4, size=40).clip(3, vocab - 1).tolist() for _ in range(50)], vocab_size=vocab
    )


def in_segments(vocab: int) -> SegmentedIndex:
    """The same documents in four segments, a third of them deleted."""
    tokens, offsets = text_like(vocab).extract_many(np.arange(50))
    docs = [part.tolist() for part in np.split(tokens, offsets[1:-1])]
    return segmented(docs, [10, 20, 30], [0, 0, 1] * 16 + [0, 0], vocab)[0]


def searches(
    model: Prompted, how: DecodingConfig, *, segments: bool = False
) -> tuple[IndexConstraint, DeviceSearch]:
    index = in_segments(60) if segments else text_like(60)
    matcher = ClueMatcher(index, stop_tokens=model.eos_token_ids, min_tokens=how.min_tokens)
    there = DeviceIndex.build(index, "cpu", block=16).to(model.device)
    constraint = DeviceConstraint(there, matcher, model.eos_token_ids)
    return IndexConstraint(matcher, model.eos_token_ids), DeviceSearch(model, constraint, how, tail=TAIL)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("how", [PLAIN, replace(PLAIN, groups=2, diversity=0.5, length_penalty=1.5)])
def test_a_real_model_with_slots_writes_what_it_writes_with_branches(
    how: DecodingConfig, segments: bool
) -> None:
    """Prompts of several lengths, batches that are not full, and a longer prompt that needs more room."""
    model, how = Prompted(llama()), replace(how, batch_size=5)
    host, search = searches(model, how, segments=segments)
    rng = np.random.default_rng(2)
    prompts = [rng.integers(3, 60, size=n).tolist() for n in (5, 9, 1, 7, 70, 3, 66, 4)]
    here = beam_search(model, host, prompts, how)
    batches = [prompts[i : i + how.batch_size] for i in range(0, len(prompts), how.batch_size)]
    there = [found for batch in batches for found in search.run(batch)]
    for ours, theirs in zip(there, here, strict=True):
        assert [c.tokens for c in ours] == [c.tokens for c in theirs]
        np.testing.assert_allclose([c.log_prob for c in ours], [c.log_prob for c in theirs], atol=1e-5)


@pytest.mark.parametrize("segments", [False, True])
def test_a_step_uses_the_same_tensors_again(segments: bool) -> None:
    """What a CUDA graph needs: everything that a step reads lies where it lay when it was recorded."""
    model = Prompted(llama())
    _, search = searches(model, PLAIN, segments=segments)
    search.run([[5, 6, 7], [8], [9]])
    held, _ = search._rooms[3]
    parts = [*held.live.parts(), held.parents, *held.done.parts(), held.broken]
    layers = held.slots._cache.layers
    parts += [part for layer in layers for part in (layer.keys, layer.values)]
    parts += [
        held.slots._prompt,
        held.slots._seen,
        held.slots._positions,
        held.slots._fed,
        held.slots._places,
    ]
    before = [part.data_ptr() for part in parts]
    search.run([[9] * 20, [11, 12], [13]])
    search.run([[9] * 20])
    assert search._rooms[3][0] is held
    assert len(search._rooms[1][0].live.total) == 1
    assert [part.data_ptr() for part in parts] == before


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("length_penalty", [0.0, 1.5])
@pytest.mark.parametrize(("groups", "diversity"), [(1, 0.0), (2, 0.0), (2, 0.5)])
def test_a_step_never_waits_for_its_device(
    groups: int, diversity: float, length_penalty: float, segments: bool
) -> None:
    """On torch's meta device there are no values, so that whatever would fetch one raises."""
    model = Prompted(llama("meta"), "meta")
    how = replace(PLAIN, groups=groups, diversity=diversity, length_penalty=length_penalty)
    _, search = searches(Prompted(llama()), how, segments=segments)
    search.model = model
    search.constraint = DeviceConstraint(search.constraint.index.to("meta"), search.constraint.matcher, (2,))
    search._rules = type(search._rules)(how, how.max_tokens, model.device)
    logits, state = Prompted(llama()).prefill([[5, 6], [7]])
    for layer in state.cache.layers:
        layer.keys, layer.values = layer.keys.to("meta"), layer.values.to("meta")
    state = BranchState(
        state.cache, state.prompt.to("meta"), state.owner, state.seen.to("meta"), state.positions.to("meta")
    )
    with torch.inference_mode():
        room, step = search._room(state, 2)
        room.slots.begin(state)
        search._begin(room, logits.to("meta"))
        for _ in range(3):
            step()
            assert Glance(model.device).at(room.live.there.any()) is None
    assert room.live.tokens.is_meta
    assert room.live.lo.shape == (2, 4, 4 if segments else 1)
    with pytest.raises(RuntimeError):
        bool(room.live.there.any())


def test_what_cannot_be_searched_is_refused() -> None:
    index, model = text_like(60), Prompted(LLM(llama().model.requires_grad_(False), fused=True))
    there = put_on_device(model, index, replace(PLAIN, engine="device"))
    with pytest.raises(ModelError, match=r"set model\.fused to false, or engine to host"):
        generate_clues(model, index, [[5, 6]], replace(PLAIN, engine="device"), on_device=there)
    with pytest.raises(DecodingError, match="engine is 'gpu'; use host, device, graph"):
        put_on_device(model, index, replace(PLAIN, engine="gpu"))

    class Broken(Random):
        def logits_of(self, prompt: Any, prefix: tuple[int, ...]) -> np.ndarray:
            logits = super().logits_of(prompt, prefix)
            return logits if len(prefix) < 2 else np.full_like(logits, np.nan)

    broken = Broken(64, (2,))
    there = put_on_device(broken, index, replace(PLAIN, engine="device"))
    with pytest.raises(ModelError, match="not numbers"):
        generate_clues(broken, index, list("ab"), replace(PLAIN, engine="device"), on_device=there)


def test_what_was_no_number_is_forgotten_by_the_next_search() -> None:
    model = Prompted(llama())
    with torch.no_grad():
        model.llm.model.get_input_embeddings().weight[63] = torch.nan
    host, search = searches(model, replace(PLAIN, batch_size=4))
    good, bad = [[5, 6], [7, 8], [9, 10]], [[63, 6], [5, 6]]
    expected = beam_search(model, host, good, PLAIN)
    with pytest.raises(ModelError, match="not numbers"):
        search.run(bad)
    for prompts in (good[:2], good):
        found = search.run(prompts)
        for ours, theirs in zip(found, expected[: len(prompts)], strict=True):
            assert [c.tokens for c in ours] == [c.tokens for c in theirs]


def test_positions_that_stretch_are_refused() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    )  # fmt: skip
    model = Prompted(LLM(LlamaForCausalLM(config).eval()))
    _, search = searches(model, PLAIN)
    with pytest.raises(ModelError, match="positions of a fixed scale"):
        search.run([[5, 6]])


def test_without_cuda_every_call_is_plain() -> None:
    calls: list[int] = []
    recorded = Recorded(lambda: calls.append(1), torch.device("cpu"), record=True)
    recorded()
    recorded()
    assert calls == [1, 1]
    assert Glance(torch.device("cpu")).at(torch.tensor(False)) is False


@pytest.mark.gpu
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("record", [False, True])
def test_the_same_clues_on_a_gpu(record: bool, segments: bool) -> None:
    how = replace(PLAIN, batch_size=4)
    here, there = Prompted(llama()), Prompted(LLM(llama().model.cuda()), "cuda")
    host, _ = searches(here, how, segments=segments)
    _, search = searches(there, how, segments=segments)
    search.record = record
    prompts = [[5, 6, 7], [8], [9, 10], [11] * 12, [13, 14, 15], [16] * 3]
    expected = beam_search(here, host, prompts, how)
    for _ in range(2):  # the second time from the graph
        found = search.run(prompts[:4]) + search.run(prompts[4:])
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose([c.log_prob for c in ours], [c.log_prob for c in theirs], atol=1e-3)
