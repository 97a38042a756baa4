"""Tokens made word by word are those of the whole text, for every kind of tokenizer that is said to have words apart."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_text import TEXTS, train_byte_level, train_sentencepiece

import gemkr
from gemkr.text._words import WordCache
from gemkr.text.tokenizer import Tokenizer, as_written, load_tokenizer
from gemkr.text.word_tokens import PROBES, TextEncoder
from gemkr.text.words_apart import LLAMA3, QWEN2, Apart, apart_in_json

SAMPLE = Path(gemkr.__file__).parent / "sample" / "models" / "llm" / "tokenizer.model"
KINDS = ["toy.model", "bytes", "llama3", "qwen2", "signs", "metaspace", "sample", "tools"]
WORDS = [
    *" ".join(TEXTS).split(),
    "1964",
    "he'll",
    "x\u0301",
    "\u200b",
    "▁",
    "a▁b",
    "\u00a0",
    "ﬁ",
    "½",
    "¨",
    "<s>",
    "<tool>",
]
texts = st.lists(
    st.one_of(
        st.sampled_from(WORDS),
        st.text(max_size=6),
        st.text(st.characters(min_codepoint=32, max_codepoint=0x17F), max_size=8),
        st.text(st.sampled_from("aAeé's1 .,-\n\t\r\u3000\u0301"), max_size=8),
    ),
    max_size=12,
)


def change(folder: Path, to: Path, **parts: Any) -> Path:
    """A copy of a Hugging Face folder with parts of its tokenizer.json replaced."""
    to.mkdir()
    described = json.loads((folder / "tokenizer.json").read_text()) | parts
    (to / "tokenizer.json").write_text(json.dumps(described))
    (to / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text())
    return to


def split_by(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, level]}


def train_signs(folder: Path) -> Path:
    """A tokenizer.json in the manner of LLaMA 2: signs for spaces, no pre-tokenizer, bytes for unknown characters."""
    from tokenizers import Tokenizer as Engine
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    engine = Engine(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    engine.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    engine.pre_tokenizer = pre_tokenizers.Metaspace()
    engine.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    engine.train_from_iterator(
        TEXTS * 20, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    )
    folder.mkdir()
    described = json.loads(engine.to_str()) | {"pre_tokenizer": None}
    described["added_tokens"] = described["added_tokens"][:3]
    (folder / "tokenizer.json").write_text(json.dumps(described))
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("words")
    train_sentencepiece(home / "toy.model")
    level = train_byte_level(home / "bytes")
    change(level, home / "llama3", pre_tokenizer=split_by(LLAMA3))
    change(level, home / "qwen2", pre_tokenizer=split_by(QWEN2), normalizer={"type": "NFC"})
    tool = {"id": 420, "content": "<tool>", "special": False, "normalized": False}
    added = [
        *json.loads((level / "tokenizer.json").read_text())["added_tokens"],
        tool | dict.fromkeys(("lstrip", "rstrip", "single_word"), False),
    ]
    change(level, home / "tools", added_tokens=added)
    signs = train_signs(home / "signs")
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    change(signs, home / "metaspace", normalizer=None, pre_tokenizer=metaspace)
    return home


@pytest.fixture(scope="module")
def encoders(home: Path) -> dict[str, tuple[Tokenizer, TextEncoder]]:
    """Every kind in both ways of reading, its memory small enough to be forgotten now and then."""
    made = {}
    for kind in KINDS:
        path = SAMPLE if kind == "sample" else home / kind
        for keep in (False, True):
            tokenizer = load_tokenizer(path, keep_white_space=keep)
            made[f"{kind} {keep}"] = tokenizer, TextEncoder(tokenizer, remembered_bytes=120_000)
    return made


def whole(tokenizer: Tokenizer, batch: list[str]) -> tuple[list[int], list[int]]:
    encoded = tokenizer.encode_batch(batch)
    return [token for one in encoded for token in one], [len(one) for one in encoded]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [False, True])
@settings(deadline=None, max_examples=25)
@given(batch=st.lists(texts.map(" ".join) | texts.map("".join), max_size=5))
def test_tokens_are_those_of_whole_texts(
    encoders: dict[str, tuple[Tokenizer, TextEncoder]], kind: str, keep: bool, batch: list[str]
) -> None:
    tokenizer, encoder = encoders[f"{kind} {keep}"]
    assert encoder.by_words
    tokens, counts = encoder.encode(batch)
    assert (tokens.tolist(), counts.tolist()) == whole(tokenizer, batch)
    assert (tokens.dtype, counts.dtype) == (np.uint16, np.int64)


def test_every_character_beside_words(encoders: dict[str, tuple[Tokenizer, TextEncoder]]) -> None:
    """Each character of the common scripts, and some others, at the end of a word, before one, and alone."""
    codes = [
        *range(1, 0x3100),
        *range(0x3100, 0xD800, 97),
        *range(0xE000, 0x20000, 97),
        *range(0xFE00, 0x10000),
    ]
    batch = [f"a{chr(c)} {chr(c)}b {chr(c)} ab" for c in codes]
    for kind in ("toy.model", "sample"):
        tokenizer, encoder = encoders[f"{kind} False"]
        tokens, counts = encoder.encode(batch)
        assert (tokens.tolist(), counts.tolist()) == whole(tokenizer, batch)


@pytest.mark.shared
def test_passages_under_the_llama_tokenizer(shared_data: Path) -> None:
    from itertools import islice

    from gemkr.data.corpus import read_corpus

    tokenizer = load_tokenizer(shared_data / "llama_tokenizer" / "tokenizer.model")
    documents = islice(read_corpus(shared_data / "corpora" / "wiki112k.csv.gz"), 2000)
    batch = [document.contents for document in documents]
    encoder = TextEncoder(tokenizer)
    assert encoder.by_words
    tokens, counts = encoder.encode(batch)
    assert (tokens.tolist(), counts.tolist()) == whole(tokenizer, batch)


def described(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tokenizer.json").read_text())


def test_what_is_known_to_be_apart(home: Path) -> None:
    assert as_written(load_tokenizer(SAMPLE)).apart is Apart.ASCII
    assert as_written(load_tokenizer(home / "toy.model")).apart is Apart.ALL
    level, signs = described(home / "bytes"), described(home / "signs")
    assert apart_in_json(level) is apart_in_json(signs) is Apart.ALL
    token = {"content": "<x>", "special": True}
    reaching = signs["model"] | {"vocab": signs["model"]["vocab"] | {"of▁the": 999}}
    for changed in (
        level | {"pre_tokenizer": split_by(r"\w+ ?|\s+")},
        level | {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        level | {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}},
        level | {"pre_tokenizer": None},
        level | {"normalizer": {"type": "Lowercase"}},
        level | {"model": level["model"] | {"dropout": 0.1}},
        level | {"model": {"type": "Unigram"}},
        level | {"added_tokens": [token | {"lstrip": True}]},
        level | {"added_tokens": [token | {"content": "two words"}]},
        signs | {"model": reaching},
        signs | {"model": signs["model"] | {"ignore_merges": True}},
        signs | {"added_tokens": [token | {"special": False}]},
        signs | {"normalizer": {"type": "NFC"}},
        {},
    ):
        assert apart_in_json(changed) is None


@pytest.mark.parametrize(
    "options",
    [{"model_type": "unigram"}, {"split_by_whitespace": False}, {"normalization_rule_tsv": "rules.tsv"}],
)
def test_sentencepiece_models_whose_words_are_not_apart(tmp_path: Path, options: dict[str, Any]) -> None:
    import sentencepiece

    if "normalization_rule_tsv" in options:  # " ," becomes ","
        (tmp_path / "rules.tsv").write_text("20 2C\t2C\n")
        options = {"normalization_rule_tsv": str(tmp_path / "rules.tsv")}
    model = io.BytesIO()
    settings = {"model_type": "bpe", "normalization_rule_name": "identity", "vocab_size": 420} | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    (tmp_path / "t.model").write_bytes(model.getvalue())
    tokenizer = load_tokenizer(tmp_path / "t.model")
    assert as_written(tokenizer).apart is None
    encoder = TextEncoder(tokenizer)
    assert not encoder.by_words
    tokens, counts = encoder.encode([*TEXTS, ""])
    assert (tokens.tolist(), counts.tolist()) == whole(tokenizer, [*TEXTS, ""])


def test_a_tokenizer_that_is_wrongly_said_to_have_words_apart_is_found_out(home: Path) -> None:
    class Drifting:
        """Ends every text with a token that depends on its length."""

        def __init__(self, tokenizer: Tokenizer) -> None:
            self.written, self.vocab_size, self.apart = as_written(tokenizer), tokenizer.vocab_size, Apart.ALL
            self.word_start = tokenizer.word_start

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            return [[*ids, len(ids) % 7] for ids in self.written.encode_batch(texts)]

    drifting = Drifting(load_tokenizer(home / "toy.model"))
    encoder = TextEncoder(drifting)
    assert not encoder.by_words
    assert encoder.encode(TEXTS[:2])[0].tolist() == whole(drifting, TEXTS[:2])[0]


def test_without_the_extension_texts_go_whole(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gemkr.text._words", None)
    tokenizer = load_tokenizer(home / "toy.model")
    encoder = TextEncoder(tokenizer)
    assert not encoder.by_words
    assert encoder.encode(list(PROBES))[0].tolist() == whole(tokenizer, list(PROBES))[0]


def test_an_interrupted_batch_leaves_no_trace(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(home / "toy.model")
    encoder = TextEncoder(tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(encoder.tokenizer, "encode_batch", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            encoder.encode(["quite new words"])
    assert encoder.encode(["quite new words"])[0].tolist() == tokenizer.encode("quite new words")


def _interrupt(texts: list[str]) -> list[list[int]]:
    raise KeyboardInterrupt


def test_the_memory_of_words_refuses_answers_that_do_not_fit() -> None:
    cache = WordCache(False)
    assert cache.note(["a b a", "c  d", ""], 2) == ["a b", "c d"]
    with pytest.raises(ValueError, match="without an answer"):
        cache.take(True)
    for lengths, size in (([1, 1, 1], 3), ([1, 1, 1, 2], 4), ([1, 1, 1, -1], 2), ([1, 1, 1, 1, 1], 5)):
        with pytest.raises(ValueError, match="do not fit"):
            cache.answer(np.array(lengths), np.zeros(size, dtype=np.uint32))
    cache.answer(np.array([1, 2, 0, 1]), np.array([7, 8, 9, 70_000], dtype=np.uint32))
    tokens, counts = cache.take(False)
    assert (tokens.tolist(), counts.tolist()) == ([7, 8, 9, 7], [4, -1, -1])
    assert cache.note(["b a"], 2) == []
    assert cache.take(True)[0].tolist() == [8, 9, 7]
    assert len(cache) == 5
    cache.clear()
    assert len(cache) == 0
    with pytest.raises(ValueError, match="group"):
        cache.note([], 0)
