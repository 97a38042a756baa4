"""The answer classifier over a text encoder: where it starts, that it learns and repeats itself, and its weight file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_encoder import save_tiny_encoder

from benchmarks.okvqa import encoder_classifier as module
from benchmarks.okvqa.config import EncoderClassifierConfig
from benchmarks.okvqa.encoder_classifier import EncoderClassifier
from gemkr.errors import ConfigError, DataError
from gemkr.models.hf.config import TextEncoderConfig
from gemkr.types import Query

DRINKS = {"cow": "milk", "leaf": "tea", "bean": "coffee"}
FILE = "encoder_classifier.safetensors"
QUERIES = [
    Query(f"{thing}{i}", f"what comes from a {thing}", caption="a table", answers=(drink,))
    for thing, drink in DRINKS.items()
    for i in range(4)
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EncoderClassifierConfig:
    words = ["what", "comes", "from", "a", "table", *DRINKS, *DRINKS.values(), "."]
    folder = save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "e", words)
    encoder = TextEncoderConfig(str(folder), max_tokens=24)
    return EncoderClassifierConfig(
        "train.jsonl", encoder, "", epochs=25, batch_size=4, lr=3e-3, head_lr=3e-2, dropout=0.0
    )


def encoder_classifier(
    queries: list[Query], config: EncoderClassifierConfig, folder: Path
) -> EncoderClassifier:
    """Learned, unless it is there, and read: into the file that the settings name, or one in the folder."""
    config = config if config.weights else replace(config, weights=str(folder / FILE))
    EncoderClassifier.learn(queries, config)
    return EncoderClassifier.read(queries, config)


def test_learns_what_queries_say(config: EncoderClassifierConfig, tmp_path: Path) -> None:
    guesser = encoder_classifier(QUERIES, config, tmp_path)
    for thing, drink in DRINKS.items():
        guesses = guesser.guess(Query("new", f"what comes from a {thing}", caption="a table"))
        assert guesses[0][0] == drink
        assert guesses[0][1] > 0.5
        assert sum(p for _, p in guesses) == pytest.approx(1, abs=1e-5)
        assert [p for _, p in guesses] == sorted((p for _, p in guesses), reverse=True)


def test_starts_from_the_meaning_of_the_answers(
    config: EncoderClassifierConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_train", lambda model, queries: None)
    guesser = encoder_classifier(QUERIES, config, tmp_path)
    query = Query("q", "coffee")
    with torch.no_grad():
        meanings = torch.stack(
            [guesser.encoder.meaning([guesser.text(Query("", a))])[0] for a in guesser.answers]
        )
        expected = (config.scale * meanings @ guesser.encoder.meaning([guesser.text(query)])[0]).softmax(
            dim=0
        )
    found = dict(guesser.guess(query))
    for answer, probability in zip(guesser.answers, expected.tolist(), strict=True):
        assert found[answer] == pytest.approx(probability, rel=1e-4)
    assert guesser.guess(query)[0][0] == "coffee"


def test_guesses_alone_and_in_company_agree(config: EncoderClassifierConfig, tmp_path: Path) -> None:
    guesser = encoder_classifier(QUERIES, replace(config, epochs=2), tmp_path)
    texts = [
        guesser.text(query) for query in (QUERIES[0], Query("long", "what " * 12), Query("short", "tea"))
    ]
    with torch.no_grad():
        together = guesser(texts)
        for row, text in zip(together, texts, strict=True):
            torch.testing.assert_close(guesser([text])[0], row, rtol=1e-4, atol=1e-4)


def test_weights_are_kept_and_known_by_what_they_were_learned_from(
    config: EncoderClassifierConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = tmp_path / "deep" / "w.safetensors", tmp_path / "other"
    short = replace(config, epochs=2, weights=str(cache))

    def guess(settings: EncoderClassifierConfig, queries: list[Query] = QUERIES) -> list[tuple[str, float]]:
        return encoder_classifier(queries, settings, tmp_path).guess(QUERIES[0])

    first = guess(short)
    assert guess(replace(short, weights="")) == first
    assert cache.read_bytes() == (tmp_path / FILE).read_bytes()
    learned = []
    train = module._train
    monkeypatch.setattr(module, "_train", lambda model, queries: (learned.append(1), train(model, queries)))
    assert guess(short) == first
    assert not learned
    with pytest.raises(DataError, match=r"w\.safetensors was learned from other queries or settings"):
        guess(replace(short, seed=1))
    with pytest.raises(DataError, match=r"w\.safetensors was learned from other queries or settings"):
        guess(short, QUERIES[:-1])
    encoder = TextEncoderConfig(str(save_tiny_encoder(other, ["what"])), max_tokens=24)
    with pytest.raises(DataError, match=r"w\.safetensors was learned from other queries or settings"):
        guess(replace(short, encoder=encoder))
    absent = replace(short, weights=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"absent does not exist.*python -m benchmarks\.okvqa\.fit"):
        EncoderClassifier.read(QUERIES, absent)
    assert not learned
    guess(absent)
    assert len(learned) == 1
    cache.write_bytes(b"no weights")
    with pytest.raises(DataError, match="is not a weight file of gemkr; delete it"):
        guess(short)


def test_the_encoder_is_tuned(config: EncoderClassifierConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.train is false"):
        encoder_classifier(QUERIES, replace(config, encoder=replace(config.encoder, train=False)), tmp_path)


def test_nothing_to_learn(config: EncoderClassifierConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer is given by 9 of the 12 training queries"):
        encoder_classifier(QUERIES, replace(config, least_answers=9), tmp_path)
