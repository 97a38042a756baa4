"""benchmarks/clue_tokens.py: nats of answers and of what follows them, against the log-probabilities of whole clues."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_clues import DOCUMENTS, PLACES, write_material

from benchmarks.okvqa.clue_tokens import long_clues, measure
from gemkr.data.clues import MinedClue
from gemkr.data.queries import read_queries
from gemkr.models.gemkr.batch import collate
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import load_gemkr


def test_answers_and_what_follows_them(tmp_path: Path) -> None:
    material = write_material(tmp_path)
    model = load_gemkr(ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True))
    tokenizer, queries = model.tokenizer, {q.query_id: q for q in read_queries(material / "queries.jsonl")}
    clues = []
    for i, (text, place) in enumerate(zip(DOCUMENTS, PLACES)):
        tokens, answer = tokenizer.encode(text), tokenizer.encode(place)
        at = next(k for k in range(len(tokens)) if tokens[k : k + len(answer)] == answer)
        for stop in (at + len(answer), at + len(answer) + 2):
            slice_ = tuple(tokens[at:stop])
            clues.append(
                MinedClue(f"q{i}", str(i), at, stop, slice_, tokenizer.decode(slice_), "long", 1, place)
            )
    clues.append(
        MinedClue("q0", "0", 0, 2, tuple(tokenizer.encode(DOCUMENTS[0])[:2]), "The", "long", 1, None)
    )
    kept = long_clues(clues, tokenizer)
    assert {name: len(own) for name, own in kept.items()} == {f"q{i}": 1 for i in range(8)}
    found = measure(model, queries, clues, None)
    assert found["after it"]["tokens"] == 16
    assert found["answer"]["tokens"] == sum(head for own in kept.values() for _, head in own)
    build, eos = model.input_builder(), model.tokenizer.eos_ids[0]
    nats = ends = 0.0
    for name, own in kept.items():
        prompt = build(queries[name], clue=own[0][0])
        nats += model.token_losses(collate([prompt]))[0].item()
        logits, _ = model.prefill([build(queries[name])])
        state = model.prefill([build(queries[name])])[1]
        for token in own[0][0]:
            logits, state = model.step(logits.new_tensor([token]).long(), state)
        ends -= logits.log_softmax(-1)[0, eos].item()
    told = sum(found[place]["tokens"] * found[place]["own question"] for place in found)
    assert told == pytest.approx(nats - ends, rel=1e-4)
    assert found["answer"]["another"] != found["answer"]["own question"]
