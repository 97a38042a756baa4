"""A small corpus and tokenizers trained on it: real sentencepiece and byte-level models, made in a second."""

from __future__ import annotations

import io
import json
from pathlib import Path

from gemkr.types import Document

TEXTS = [
    "Paris is the capital of France. The river Seine flows through it.",
    "The capital of Japan is Tokyo, a city of fourteen million people.",
    "Giraffes eat acacia leaves. A giraffe has a long neck and a blue tongue.",
    "A pony tail is a hairstyle in which the hair is gathered at the back of the head.",
    "The surfboard was invented in Hawaii; surfing is called he'e nalu there.",
    "Naïve café owners in Zürich sell crêpes (and pony rides) to tourists.",
    "Tokyo is the largest city of Japan. Tokyo hosted the Olympic Games in 1964.",
    "Acacia honey is sweet. Honey never spoils, says the keeper of bees.",
]


def documents() -> list[Document]:
    return [Document(f"d{i}", text) for i, text in enumerate(TEXTS)]


def write_csv(path: Path) -> Path:
    rows = "".join('d{},"{}"\n'.format(i, text.replace('"', '""')) for i, text in enumerate(TEXTS))
    path.write_text("kid,text\n" + rows, encoding="utf-8")
    return path


def train_sentencepiece(path: Path, vocab_size: int = 420) -> Path:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        vocab_size=vocab_size,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    return path


def train_byte_level(folder: Path, vocab_size: int = 420) -> Path:
    """A Hugging Face folder in the manner of LLaMA 3: tokenizer.json and tokenizer_config.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    engine.train_from_iterator(TEXTS * 20, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    engine.save(str(folder / "tokenizer.json"))
    names = {"bos_token": special[0], "eos_token": special[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    return folder
