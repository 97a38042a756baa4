"""Trains the sample's sentencepiece model on the corpus, the prompts and the questions.

1,600 BPE pieces with byte fallback; every country's name is one piece, so that one projected region feature can
stand where the language model has read one name. Knows no model.
"""

from __future__ import annotations

import io
import random
from pathlib import Path

from gemkr.data.clues import FORMS
from gemkr.models.gemkr.prompt import default_template
from gemkr.sample.corpus import documents
from gemkr.sample.facts import KINDS, countries, in_prose
from gemkr.sample.questions import REFERENCES, refer, word_question

PIECES = 1600
NAME_LISTS = 3000
QUESTION_LINES = 1500


def train_tokenizer(path: Path) -> None:
    """Write the sentencepiece model file; a few seconds, the same bytes for the same texts.

    Raises RuntimeError when a country's name does not become one piece.
    """
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    buffer = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(_texts()),
        model_writer=buffer,
        model_type="bpe",
        vocab_size=PIECES,
        byte_fallback=True,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        split_digits=True,
        num_threads=1,
        minloglevel=2,
    )
    model = SentencePieceProcessor(model_proto=buffer.getvalue())
    split = [name for name in countries() if len(model.encode(name)) != 1]
    if split:
        raise RuntimeError(f"these names are not one piece each: {', '.join(split)}; raise NAME_LISTS")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def _texts() -> list[str]:
    rng = random.Random("tokenizer")
    names = list(countries())
    texts = list(documents().values()) * 3
    for _ in range(NAME_LISTS):
        texts.append(" , ".join(rng.sample(names, 3)) + " .")
    for i in range(QUESTION_LINES):
        place = rng.choice(list(REFERENCES))
        who = refer(place, rng) if i % 3 else in_prose(rng.choice(names))
        question = word_question(rng.choice(KINDS), who, rng)
        fields = {"question": question, "caption": "", "detections": "", "form": rng.choice(("", *FORMS))}
        texts.extend(part for part in default_template().render(fields, True) if part)
    return texts
