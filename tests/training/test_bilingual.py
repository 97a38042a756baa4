"""One encoder for two languages: trained on questions in English and Chinese about the same passages, it finds the passage of a scene
that neither was asked about, by a question in either, with nearly the same score."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tiny_flmr import save_tiny_text

from gemkr.config.files import from_mapping
from gemkr.evaluation.config import EvalConfig
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.training.contrastive.run import train_encoder

COLOURS = {"red": "红", "blue": "蓝", "green": "绿", "black": "黑", "white": "白"}
ANIMALS = {"cat": "猫", "dog": "狗", "horse": "马", "bird": "鸟", "fish": "鱼"}
PLACES = {"river": "河边", "forest": "森林", "house": "房子", "market": "市场", "bridge": "桥上"}
SCENES = list(product(COLOURS, ANIMALS, PLACES))
FORMS = (
    ("Where does the {0} {1} by the {2} sleep?", "{2}的{0}{1}睡在哪里？"),  # noqa: RUF001
    ("Who feeds the {0} {1} near the {2}?", "谁在{2}喂{0}{1}？"),  # noqa: RUF001
)
ENGLISH, CHINESE = 0, 1
ENCODER = {"kind": "preflmr", "width": 16, "query_tokens": 20, "document_tokens": 20}


def question(scene: tuple[str, str, str], form: int, language: int) -> str:
    words = scene
    if language == CHINESE:
        words = tuple(terms[word] for terms, word in zip((COLOURS, ANIMALS, PLACES), scene, strict=True))
    return FORMS[form][language].format(*words)


def held_out(scene: tuple[str, str, str]) -> bool:
    """One scene in five; each colour, animal and place stands in others too, each pair of them as well."""
    places = (list(terms).index(word) for terms, word in zip((COLOURS, ANIMALS, PLACES), scene, strict=True))
    return sum(places) % 5 == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passages in English, questions of the learned scenes in both languages, and an encoder whose tokenizer is made of all of them."""
    folder = tmp_path_factory.mktemp("bilingual")
    passages = [f"A {colour} {animal} sleeps by the {place}." for colour, animal, place in SCENES]
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(passages)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [
        {"query_id": f"q{number}-{form}-{language}", "question": question(scene, form, language), "positives": [f"d{number}"]}
        for number, scene in enumerate(SCENES) if not held_out(scene)
        for form in range(len(FORMS)) for language in (ENGLISH, CHINESE)
    ]  # fmt: skip
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    texts = [*passages, *(query["question"] for query in queries)]
    vocabulary = sorted({token for text in texts for token in tokens_of(text)})
    save_tiny_text(folder / "bert", ["[unused0]", "[unused1]", *vocabulary], layers=1)
    return folder


def tokens_of(text: str) -> list[str]:
    """English words, Chinese characters and marks, as a BERT's tokenizer divides a text."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normal = BertNormalizer(lowercase=True).normalize_str(text)
    return [token for token, _ in BertPreTokenizer().pre_tokenize_str(normal)]


def found(folder: Path, checkpoint: Path | None) -> dict[tuple[int, int, int], dict[str, float]]:
    """(scene, form, language) -> documents and their scores, best first, of the questions about scenes that were held out."""
    keys = [
        (number, form, language)
        for number, scene in enumerate(SCENES) if held_out(scene)
        for form in range(len(FORMS)) for language in (ENGLISH, CHINESE)
    ]  # fmt: skip
    rows = [
        {"query_id": "-".join(map(str, key)), "question": question(SCENES[key[0]], *key[1:])} for key in keys
    ]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = ENCODER | {"text": str(folder / "bert"), "checkpoint": checkpoint and str(checkpoint)}
    values = {
        "queries": str(folder / "asked.jsonl"), "corpus": str(folder / "corpus.jsonl"),
        "retrievers": {"own": {"kind": "late_interaction", "encoder": encoder}},
    }  # fmt: skip
    sources = from_mapping(values, EvalConfig, "test").sources()
    rankings = sources.retriever("own").retrieve(sources.queries, len(SCENES))
    return {
        key: {hit.doc_id: hit.score for hit in ranking.hits}
        for key, ranking in zip(keys, rankings, strict=True)
    }


def figures(answers: dict[tuple[int, int, int], dict[str, float]]) -> tuple[list[float], float]:
    """Share of questions whose passage is first, by language; and how far the right passage's scores in two languages lie apart, in
    standard deviations of a question's scores."""
    hits, apart = ([], []), []
    for (number, form, language), scores in answers.items():
        hits[language].append(next(iter(scores)) == f"d{number}")
        if language == ENGLISH:
            other = answers[number, form, CHINESE]
            spread = np.std([*scores.values()])
            apart.append(abs(scores[f"d{number}"] - other[f"d{number}"]) / spread)
    return [float(np.mean(own)) for own in hits], float(np.mean(apart))


def test_questions_in_either_language_find_the_same_passage(folder: Path, tmp_path: Path) -> None:
    before, apart_before = figures(found(folder, None))
    assert max(before) < 0.5
    values = {
        "encoder": ENCODER | {"text": str(folder / "bert")}, "corpus": str(folder / "corpus.jsonl"),
        "queries": str(folder / "queries.jsonl"), "output": str(tmp_path / "run"), "loss": {"temperature": 0.5},
        "optimizer": {"lr": 5e-3, "min_lr": 5e-4, "warmup_steps": 5, "weight_decay": 0.0}, "batch_size": 32,
        "epochs": 24, "workers": 0, "save_every": 1000,
    }  # fmt: skip
    outcome = train_encoder(from_mapping(values, ContrastiveConfig, "test"))
    answers = found(folder, outcome.checkpoint)
    after, apart = figures(answers)
    assert min(after) > 0.95
    same = [
        next(iter(scores)) == next(iter(answers[number, form, CHINESE]))
        for (number, form, language), scores in answers.items()
        if language == ENGLISH
    ]
    assert np.mean(same) > 0.95
    assert apart < 0.25
    assert apart < apart_before
