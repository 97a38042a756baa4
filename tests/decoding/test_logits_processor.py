"""The adapter for `model.generate`: stub calls, and a real transformers model with greedy, beams and sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from many_segments import collection_of, fresh_index, live
from toy_text import train_sentencepiece

from gemkr.decoding.engines.processor import IndexLogitsProcessor
from gemkr.errors import DecodingError, ModelError
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.text.borders import borders_of

EOS = 2
DOCS = [[3, 4, 5, 3, 4, 6], [4, 5, 7], [8, 9, 10, 11, 12, 13]]


@pytest.fixture(scope="module")
def index() -> FMIndex:
    return FMIndex.build(DOCS, vocab_size=14)


def allowed(scores: torch.Tensor) -> list[set[int]]:
    return [set(torch.isfinite(row).nonzero().flatten().tolist()) for row in scores]


def test_rows_follow_their_prefix_through_reordering(index) -> None:
    processor = IndexLogitsProcessor(index, EOS, prompt_length=2)
    scores = torch.zeros(3, 20)
    prompt = torch.tensor([[1, 9]] * 3)
    first = processor(prompt, scores)
    assert allowed(first) == [set(range(3, 14))] * 3
    one = torch.cat([prompt, torch.tensor([[3], [4], [8]])], dim=1)
    assert allowed(processor(one, scores)) == [{4, EOS}, {5, 6, EOS}, {9, EOS}]
    two = torch.cat([one[[1, 1, 0]], torch.tensor([[5], [6], [4]])], dim=1)
    assert allowed(processor(two, scores)) == [{3, 7, EOS}, {EOS}, {5, 6, EOS}]
    strangers = torch.tensor([[1, 9, 8, 9, 10], [1, 9, 3, 4, 6], [1, 9, 4, 6, EOS]])
    assert allowed(processor(strangers, scores)) == [{11, EOS}, {EOS}, {EOS}]


def test_when_a_clue_may_end(index) -> None:
    ids = torch.tensor([[4, 5], [4, 6], [8, 9]])
    scores = torch.randn(3, 14)
    ends = allowed(IndexLogitsProcessor(index, EOS, prompt_length=0, allow_eos=False)(ids, scores))
    assert ends == [{3, 7}, {EOS}, {10}]
    late = allowed(IndexLogitsProcessor(index, [EOS, 0], prompt_length=0, min_tokens=3)(ids, scores))
    assert late == [{3, 7}, {EOS, 0}, {10}]
    one = IndexLogitsProcessor(index, EOS, prompt_length=0, stop_at_one_document=True)
    assert allowed(one(ids, scores)) == [{3, 7, EOS}, {EOS}, {EOS}]


def test_values_are_untouched_and_a_blocked_row_ends(index) -> None:
    processor = IndexLogitsProcessor(index, EOS, prompt_length=0)
    scores = torch.randn(1, 14)
    out = processor(torch.tensor([[8]]), scores)
    assert out[0, 9] == scores[0, 9]
    blocked = torch.full((1, 14), -torch.inf)
    out = IndexLogitsProcessor(index, EOS, prompt_length=0)(torch.tensor([[8]]), blocked)
    assert allowed(out) == [{EOS}]
    elsewhere = torch.where(torch.arange(14) == 8, 0.0, blocked)
    for ids in (torch.zeros((1, 0), dtype=torch.long), torch.tensor([[3]])):
        out = IndexLogitsProcessor(index, [EOS, 0], prompt_length=0, min_tokens=3)(ids, elsewhere)
        assert allowed(out) == ([{8}] if not ids.numel() else [{EOS, 0}])
    start = torch.where(torch.arange(14) == 1, 0.0, blocked)
    out = IndexLogitsProcessor(index, EOS, prompt_length=0)(torch.zeros((1, 0), dtype=torch.long), start)
    assert allowed(out) == [{EOS}]


def test_wrong_use_is_named(index) -> None:
    with pytest.raises(DecodingError, match="do not occur"):
        IndexLogitsProcessor(index, EOS, prompt_length=0)(torch.tensor([[5, 5]]), torch.zeros(1, 14))
    with pytest.raises(ModelError, match="14 tokens but the model scores only 9"):
        IndexLogitsProcessor(index, EOS)(torch.tensor([[5]]), torch.zeros(1, 9))
    with pytest.raises(DecodingError, match="needs an end token"):
        IndexLogitsProcessor(index, [])


def llama(vocab_size: int, eos: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=eos,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("kind", ["greedy", "beams", "sampling", "embeddings"])
def test_generate_of_transformers(index, kind) -> None:
    model = llama(16, EOS)
    prompt = torch.tensor([[1, 4, 5], [1, 8, 8]])
    processor = IndexLogitsProcessor(index, EOS)
    how = {
        "greedy": {"do_sample": False},
        "beams": {"num_beams": 4, "num_return_sequences": 4, "do_sample": False},
        "sampling": {"do_sample": True, "num_return_sequences": 5},
        "embeddings": {"num_beams": 3, "num_return_sequences": 3, "do_sample": False},
    }[kind]
    if kind == "embeddings":
        inputs = {
            "inputs_embeds": model.get_input_embeddings()(prompt),
            "attention_mask": torch.ones_like(prompt),
        }
    else:
        inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    out = model.generate(**inputs, max_new_tokens=6, logits_processor=[processor], **how)
    texts = out if kind == "embeddings" else out[:, 3:]
    assert len(texts) >= 2
    for row in texts.tolist():
        clue = row[: row.index(EOS)] if EOS in row else [t for t in row if t != 0]
        assert clue
        assert index.search(clue).count > 0
    assert np.isfinite(out.numpy()).all()


@pytest.mark.parametrize("segments", [1, 3, 12])
def test_a_collection_gives_what_a_fresh_index_of_its_documents_gives(tmp_path, segments) -> None:
    path = train_sentencepiece(tmp_path / "toy.model")
    collection = collection_of(tmp_path / "c", path, segments)
    assert isinstance(collection.index, SegmentedIndex)
    tokenizer, fresh = collection.tokenizer, fresh_index(live(), collection.tokenizer)
    borders = borders_of(tokenizer, fresh.vocab_size, words=True)
    clues = [list(tokenizer.encode(d.text))[:n] for d in live()[::20] for n in (1, 2, 4)]
    scores = torch.randn(len(clues), fresh.vocab_size, generator=torch.Generator().manual_seed(0))
    for settings in (
        {},
        {"allow_eos": False},
        {"stop_at_one_document": True, "min_tokens": 2},
        {"borders": borders, "word_start": tokenizer.word_start},
    ):
        sides = [
            IndexLogitsProcessor(index, tokenizer.eos_ids, prompt_length=0, **settings)
            for index in (collection.index, fresh)
        ]
        for n in (0, 1, 2, 4):
            some = [clue for clue in clues if len(clue) == n] or [[]]
            ids = torch.tensor(some, dtype=torch.int64).reshape(len(some), n)
            ours, theirs = (side(ids, scores[: len(some)]) for side in sides)
            assert torch.equal(ours, theirs)
            assert torch.isfinite(ours).any(dim=1).all()
        assert [sides[0].is_whole(c) for c in clues] == [sides[1].is_whole(c) for c in clues]
        assert not any(side.is_whole(c) for side in sides for c in ([], tokenizer.eos_ids, [0] * 9))
    model = llama(tokenizer.vocab_size, tokenizer.eos_ids[0])
    prompt = torch.tensor([[1, 4, 5], [1, 8, 8]])
    found = [
        model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=6,
            num_beams=4,
            num_return_sequences=4,
            do_sample=False,
            logits_processor=[IndexLogitsProcessor(index, tokenizer.eos_ids)],
        )
        for index in (collection.index, fresh)
    ]
    assert torch.equal(*found)
