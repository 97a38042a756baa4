"""The beam search: against the published procedure written plainly, against brute force, and its own promises."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.decoding.beam import generate_clues
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DecodingError, ModelError
from gemkr.fm_index import FMIndex
from gemkr.testing import FakeLM, RandomLM, ScriptedLM, TableLM, ToyTokenizer, toy_corpus

EOS = 2
PLAIN = DecodingConfig(groups=1, diversity=0.0, length_penalty=0.0)
REFERENCE = DecodingConfig()


def log_softmax(model: FakeLM, prompt: str, prefix: tuple[int, ...]) -> np.ndarray:
    logits = torch.from_numpy(np.asarray(model.logits_of(prompt, prefix), dtype=np.float32))
    return torch.log_softmax(logits, dim=-1).double().numpy()


def substrings(docs: list[list[int]], longest: int) -> set[tuple[int, ...]]:
    return {
        tuple(d[i:j]) for d in docs for i in range(len(d)) for j in range(i + 1, min(len(d), i + longest) + 1)
    }


def published_group_beams(
    model, docs, prompt, s: DecodingConfig
) -> list[tuple[tuple[int, ...], float, float]]:
    """Hugging Face's group beam search, one query, full-vocabulary masks, lists: (tokens, score, log_prob)."""
    vocab, size = model.vocab_size, s.beam_size // s.groups
    known = substrings(docs, s.max_tokens + 1)
    groups = [[((), 0.0, 0.0)] for _ in range(s.groups)]
    pools: list[list[tuple[float, tuple[int, ...], float]]] = [[] for _ in range(s.groups)]
    done = [False] * s.groups

    def add(pool, tokens, total, log_prob):
        score = total / len(tokens) ** s.length_penalty
        if len(pool) < size or score > min(pool)[0]:
            pool.append((score, tokens, log_prob))
            if len(pool) > size:
                pool.remove(min(pool))

    for length in range(s.max_tokens):
        chosen: list[int] = []
        for g in range(s.groups):
            if done[g] or not groups[g]:
                continue
            candidates = []
            for b, (tokens, total, log_prob) in enumerate(groups[g]):
                scores = log_softmax(model, prompt, tokens)
                penalty = s.diversity * np.bincount(chosen, minlength=vocab)
                follow = [t for t in range(vocab) if t != EOS and (*tokens, t) in known]
                if not follow:
                    add(pools[g], tokens, total, log_prob)
                    continue
                mask = np.full(vocab, -np.inf)
                mask[follow] = 0
                if length >= s.min_tokens and s.allow_eos:
                    mask[EOS] = 0
                for t in np.flatnonzero(mask == 0):
                    candidates.append((total + scores[t] - penalty[t], b, int(t), log_prob + scores[t]))
            candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * size]
            beams = []
            for rank, (total, b, t, log_prob) in enumerate(candidates):
                tokens = groups[g][b][0]
                if t == EOS:
                    if rank < size:
                        add(pools[g], tokens, total, log_prob)
                else:
                    beams.append(((*tokens, t), total, log_prob))
                if len(beams) == size:
                    break
            groups[g] = beams
            chosen += [tokens[-1] for tokens, _, _ in beams]
            if candidates and len(pools[g]) == size:
                hope = candidates[0][0] / (length + 1) ** s.length_penalty
                done[g] = min(pools[g])[0] >= hope
    for g in range(s.groups):
        if not done[g]:
            for tokens, total, log_prob in groups[g]:
                add(pools[g], tokens, total, log_prob)
    best = sorted((entry for pool in pools for entry in pool), key=lambda e: -e[0])
    first = {}
    for score, tokens, log_prob in best:
        first.setdefault(tokens, (tokens, score, log_prob))
    return list(first.values())


CORPORA = st.lists(st.lists(st.sampled_from([0, 1, 3, 4, 5, 6]), max_size=12), min_size=1, max_size=5).filter(
    any
)


@settings(deadline=None, max_examples=60)
@given(
    docs=CORPORA,
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(10, 10), (10, 5), (6, 2), (4, 1), (1, 1)]),
    diversity=st.sampled_from([0.0, 0.5, 2.0]),
    max_tokens=st.integers(1, 10),
    length_penalty=st.sampled_from([1.5, 1.0, 0.0]),
    allow_eos=st.booleans(),
)
def test_reference_mode_is_the_published_procedure(
    docs, seed, shape, diversity, max_tokens, length_penalty, allow_eos
) -> None:
    index = FMIndex.build(docs, vocab_size=7)
    model = RandomLM(7, (EOS,), seed=seed)
    s = DecodingConfig(
        beam_size=shape[0],
        groups=shape[1],
        diversity=diversity,
        max_tokens=max_tokens,
        length_penalty=length_penalty,
        allow_eos=allow_eos,
        batch_size=3,
    )
    prompts = ["a", "b", "c", "d"]
    if not allow_eos:  # the plain procedure knows no document ends
        model.eos_token_ids = ()
    found = generate_clues(model, index, prompts, s)
    model.eos_token_ids = (EOS,)
    for prompt, clues in zip(prompts, found):
        expected = published_group_beams(model, docs, prompt, s)
        assert [c.tokens for c in clues] == [tokens for tokens, _, _ in expected]
        np.testing.assert_allclose([c.score for c in clues], [e[1] for e in expected], atol=1e-4)
        np.testing.assert_allclose([c.log_prob for c in clues], [e[2] for e in expected], atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(docs=CORPORA, seed=st.integers(0, 10**6), max_tokens=st.integers(1, 5), k=st.integers(1, 5))
def test_a_wide_beam_finds_exactly_the_most_probable_substrings(docs, seed, max_tokens, k) -> None:
    index = FMIndex.build(docs, vocab_size=7)
    model = RandomLM(7, (EOS,), seed=seed, scale=1.0)
    known = substrings(docs, max_tokens + 1)
    probabilities = {}
    for tokens in known:
        if len(tokens) <= max_tokens:
            steps = [log_softmax(model, "q", tokens[:i])[t] for i, t in enumerate(tokens)]
            free = len(tokens) < max_tokens and any((*tokens, t) in known for t in range(7) if t != EOS)
            ends = log_softmax(model, "q", tokens)[EOS] if free else 0.0
            probabilities[tokens] = sum(steps) + ends
    best = sorted(probabilities, key=lambda t: -probabilities[t])
    s = replace(PLAIN, beam_size=len(known), max_tokens=max_tokens)
    (clues,) = generate_clues(model, index, ["q"], s)
    assert [c.tokens for c in clues] == best
    np.testing.assert_allclose([c.log_prob for c in clues], [probabilities[t] for t in best], atol=1e-4)
    assert [c.tokens for c in clues[:k]] == best[:k]


@pytest.fixture(scope="module")
def toy() -> tuple[FMIndex, ToyTokenizer, list[list[int]]]:
    documents = toy_corpus()
    tokenizer = ToyTokenizer(d.text for d in documents)
    docs = [tokenizer.encode(d.text) for d in documents]
    index = FMIndex.build(docs, [d.doc_id for d in documents], vocab_size=tokenizer.vocab_size)
    return index, tokenizer, docs


MODES = {
    "reference": REFERENCE,
    "plain": PLAIN,
    "document ends only": replace(PLAIN, allow_eos=False),
    "one document": replace(PLAIN, stop_at_one_document=True),
    "documents": replace(PLAIN, stop_at_one_document=True, document_penalty=math.inf),
    "reference with documents": replace(REFERENCE, document_penalty=3.0),
    "heads": replace(PLAIN, group_by_head=True, word_start=True, min_tokens=2),
    "everything": replace(
        PLAIN, group_by_head=True, word_start=True, stop_at_one_document=True, document_penalty=4.0
    ),
}


@pytest.mark.parametrize("settings_", MODES.values(), ids=MODES.keys())
def test_every_clue_is_a_substring_with_the_models_probability(toy, settings_) -> None:
    index, tokenizer, _ = toy
    model = RandomLM(tokenizer.vocab_size, (EOS,), seed=3, scale=1.5)
    prompts = [f"question {i}" for i in range(7)]
    words = tokenizer.word_start
    found = generate_clues(model, index, prompts, settings_, word_start=words, tokenizer=tokenizer)
    assert len(found) == len(prompts)
    for prompt, clues in zip(prompts, found):
        assert 0 < len(clues) <= 10
        assert len({c.tokens for c in clues}) == len(clues)
        assert [c.score for c in clues] == sorted((c.score for c in clues), reverse=True)
        for clue in clues:
            assert clue.span == index.search(clue.tokens)
            assert clue.span.count > 0
            assert clue.text == tokenizer.decode(clue.tokens)
            assert len(clue.tokens) <= settings_.max_tokens
            steps = [log_softmax(model, prompt, clue.tokens[:i])[t] for i, t in enumerate(clue.tokens)]
            ended = sum(steps) + log_softmax(model, prompt, clue.tokens)[EOS]
            assert math.isclose(clue.log_prob, sum(steps), abs_tol=1e-4) or math.isclose(
                clue.log_prob, ended, abs_tol=1e-4
            )
    for size in (1, 2, 100):
        again = generate_clues(
            model,
            index,
            prompts,
            replace(settings_, batch_size=size),
            word_start=words,
            tokenizer=tokenizer,
        )
        assert again == found


def test_clues_of_one_head_share_no_beam(toy) -> None:
    index, tokenizer, _ = toy
    model = RandomLM(tokenizer.vocab_size, (EOS,), seed=1, scale=4.0)
    s = replace(PLAIN, group_by_head=True, word_start=True)
    for clues in generate_clues(
        model, index, [f"{i}" for i in range(10)], s, word_start=tokenizer.word_start
    ):
        heads = [c.tokens[0] for c in clues]
        assert len(set(heads)) == len(heads) == 10
    two = replace(s, head_words=2, beams_per_head=2)
    for clues in generate_clues(
        model, index, [f"{i}" for i in range(10)], two, word_start=tokenizer.word_start
    ):
        heads = [c.tokens[:2] for c in clues]
        assert max(heads.count(h) for h in heads) <= 2


def test_a_head_of_several_tokens_ends_where_the_next_word_begins() -> None:
    docs = [[3, 4, 5, 3, 6], [3, 4, 7], [3, 4, 4, 5]]  # 4 continues a word, the others start one
    starts = np.array([0, 0, 0, 1, 0, 1, 1, 1], dtype=bool)
    index = FMIndex.build(docs, vocab_size=8)
    model = RandomLM(8, (EOS,), seed=0)
    s = replace(PLAIN, group_by_head=True, word_start=True, max_tokens=5)
    (clues,) = generate_clues(model, index, ["q"], s, word_start=starts)

    def head(tokens: tuple[int, ...]) -> tuple[int, ...]:
        stop = next((i for i, t in enumerate(tokens) if i and starts[t]), len(tokens))
        return tokens[:stop]

    heads = [head(c.tokens) for c in clues]
    assert len(set(heads)) == len(heads)
    assert {(3, 4), (3, 4, 4), (5,)} <= set(heads)


def test_documents_are_named_once(toy) -> None:
    index, tokenizer, _ = toy
    model = RandomLM(tokenizer.vocab_size, (EOS,), seed=5, scale=1.0)
    s = replace(PLAIN, stop_at_one_document=True, document_penalty=math.inf, min_tokens=3)
    for clues in generate_clues(model, index, [f"{i}" for i in range(10)], s):
        named = [int(d[0]) for c in clues for d in [index.documents(c.span)[0]] if len(d) == 1]
        assert len(set(named)) == len(named) >= 6
        for clue in clues:
            before = index.search(clue.tokens[:-1])
            assert len(clue.tokens) <= 3 or len(index.documents(before)[0]) > 1


def test_a_penalised_document_gives_way_but_may_return() -> None:
    docs = [[3, 4], [3, 5], [6, 7]]
    index = FMIndex.build(docs, vocab_size=8)
    script = {"q": {(3, 4): 0.5, (4,): 0.4, (6, 7): 0.1}}
    s = replace(PLAIN, beam_size=2, stop_at_one_document=True, max_tokens=2)
    model = ScriptedLM(8, EOS, script)
    (plain,) = generate_clues(model, index, ["q"], s)
    assert [c.tokens for c in plain] == [(3, 4), (4,)]
    (aware,) = generate_clues(model, index, ["q"], replace(s, document_penalty=5.0))
    assert [c.tokens for c in aware] == [(3, 4), (6,)]
    (gentle,) = generate_clues(model, index, ["q"], replace(s, document_penalty=0.1))
    assert [c.tokens for c in gentle] == [(3, 4), (4,)]
    assert gentle[1].score == pytest.approx(gentle[1].log_prob - 0.1, abs=1e-5)


def test_several_end_tokens_and_none() -> None:
    index = FMIndex.build([[3, 4, 5]], vocab_size=6)
    logits = np.log(np.array([[0.1, 0.1, 0.2, 0.2, 0.2, 0.2]] * 6, dtype=np.float32))
    model = TableLM(logits, (1, 2))
    model.prefill = lambda prompts: (
        torch.from_numpy(logits[: len(prompts)]),
        TableLM(logits * 0).prefill(prompts)[1],
    )
    model.step = lambda tokens, state: (torch.from_numpy(logits[: len(tokens)]), state)
    (clues,) = generate_clues(model, index, ["q"], replace(PLAIN, max_tokens=2))
    by_tokens = {c.tokens: c.log_prob for c in clues}
    assert by_tokens[(3,)] == pytest.approx(math.log(0.2 * 0.3), abs=1e-5)
    assert by_tokens[(3, 4)] == pytest.approx(math.log(0.2 * 0.2), abs=1e-5)
    assert by_tokens[(5,)] == pytest.approx(math.log(0.2), abs=1e-5)
    model.eos_token_ids = ()
    (clues,) = generate_clues(model, index, ["q"], replace(PLAIN, max_tokens=2))
    assert {c.tokens for c in clues} == {(3, 4), (4, 5), (5,)}


def test_a_beam_wider_than_the_corpus_gives_what_there_is() -> None:
    index = FMIndex.build([[3]], vocab_size=4)
    for s in (PLAIN, REFERENCE, replace(PLAIN, beam_size=50)):
        (clues,) = generate_clues(RandomLM(4, (EOS,)), index, ["q"], s)
        assert [c.tokens for c in clues] == [(3,)]
    assert generate_clues(RandomLM(4, (EOS,)), index, [], PLAIN) == []


def test_wrong_inputs_are_named() -> None:
    index = FMIndex.build([[3, 9]], vocab_size=10)
    with pytest.raises(ModelError, match="10 tokens but the model scores only 5"):
        generate_clues(RandomLM(5), index, ["q"], PLAIN)
    with pytest.raises(DecodingError, match="10 cannot be shared evenly by 3"):
        generate_clues(RandomLM(10), index, ["q"], replace(PLAIN, groups=3))
    with pytest.raises(DecodingError, match="groups to 1"):
        generate_clues(RandomLM(10), index, ["q"], replace(REFERENCE, group_by_head=True))
    with pytest.raises(DecodingError, match="word-start array"):
        generate_clues(RandomLM(10), index, ["q"], replace(PLAIN, word_start=True))
    with pytest.raises(DecodingError, match="at least 4 and at most 2"):
        generate_clues(RandomLM(10), index, ["q"], replace(PLAIN, min_tokens=4, max_tokens=2))
    for exponent in (1e9, -1e9):
        with pytest.raises(DecodingError, match=r"length_penalty is .* but must be between -10 and 10"):
            generate_clues(RandomLM(10), index, ["q"], replace(PLAIN, length_penalty=exponent))
    with pytest.raises(DecodingError, match="holds no tokens"):
        generate_clues(RandomLM(10), FMIndex.build([[]], vocab_size=4), ["q"], PLAIN)

    class Broken(RandomLM):
        def logits_of(self, prompt, prefix):
            return np.full(10, np.nan)

    with pytest.raises(ModelError, match="NaN"):
        generate_clues(Broken(10), index, ["q"], PLAIN)


@pytest.mark.parametrize("settings_", [REFERENCE, PLAIN], ids=["reference", "plain"])
def test_many_tokens_never_leave_the_corpus(settings_) -> None:
    rng = np.random.default_rng(0)
    vocab = 300
    docs = [rng.zipf(1.3, size=60).clip(0, vocab - 1).tolist() for _ in range(200)]
    index = FMIndex.build(docs, vocab_size=vocab)
    model = TableLM(rng.normal(size=(vocab, vocab)).astype(np.float32), (EOS,))
    s = replace(settings_, batch_size=64)
    prompts = [f"{i}" for i in range(128)]
    decoded = 0
    for clues in generate_clues(model, index, prompts, s):
        assert clues
        for clue in clues:
            assert clue.span == index.search(clue.tokens)
            assert clue.span.count > 0
            assert math.isfinite(clue.score)
            decoded += len(clue.tokens)
    assert decoded > 1000
