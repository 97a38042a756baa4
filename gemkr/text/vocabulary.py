"""A sentencepiece vocabulary of one's own, learned from a corpus the way LLaMA's was.

Byte-pair encoding, digits apart, bytes for what no piece covers. Without case folding every
normalized text decodes to itself. unk 0, bos 1, eos 2, no pad. Knows nothing of models.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from gemkr.errors import TokenizerError
from gemkr.files import part_of
from gemkr.text.normalize import normalize

MAX_LINE_BYTES = 1 << 15

logger = logging.getLogger(__name__)


def train_vocabulary(
    texts: Iterable[str],
    path: str | Path,
    *,
    pieces: int,
    lines: int = 300_000,
    fold_case: bool = False,
    seed: int = 0,
) -> None:
    """Write a sentencepiece model of at most `pieces` pieces to `path`, learned from a random sample of `lines` texts.

    With `fold_case` the model reads every text in lower case and Unicode's compatibility form (NFKC), so that one word
    has one spelling for index and LLM alike: a small vocabulary goes further, and clues match whatever their case.
    Texts that do not hold so many pieces give fewer, with a warning. Deterministic for equal texts and seed. Raises
    TokenizerError when the texts have more characters than pieces, or the file cannot be written. Cost: about 20 s for 60 MB of text and 8,000 pieces.
    """
    sample = _sample(texts, lines, random.Random(seed))
    path = Path(path)
    part = part_of(path)
    try:
        with part.open("wb") as stream:
            _learn(sample, stream, pieces, fold_case)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except RuntimeError as error:
        raise TokenizerError(
            f"a vocabulary of {pieces} pieces cannot be learned from {len(sample)} lines; {_remedy(str(error))}"
        ) from error
    except OSError as error:
        raise TokenizerError(f"the vocabulary {path} cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _learn(sample: list[str], stream: BinaryIO, pieces: int, fold_case: bool) -> None:
    """Learn at most `pieces` pieces: fewer, with a warning, where the texts do not hold as many. RuntimeError as the library
    says it for anything else."""
    import sentencepiece

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sample),
            model_writer=stream,
            vocab_size=pieces,
            model_type="bpe",
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="nmt_nfkc_cf" if fold_case else "identity",
            remove_extra_whitespaces=False,
            character_coverage=0.9995,
            max_sentence_length=MAX_LINE_BYTES,
            shuffle_input_sentence=False,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=os.cpu_count() or 1,
            minloglevel=2,
        )
    except RuntimeError as error:
        most = re.search(r"value <= (\d+)", str(error))
        if most is None or int(most[1]) >= pieces:
            raise
        logger.warning("the texts hold no %d pieces; the vocabulary has %s", pieces, most[1])
        stream.seek(0)
        stream.truncate()
        _learn(sample, stream, int(most[1]), fold_case)


def _remedy(message: str) -> str:
    """What sentencepiece's complaint asks for: it knows the least that these lines allow."""
    least = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if least is not None:
        return f"ask for at least {least[1]} pieces"
    return f"ask for fewer pieces ({' '.join(message.split())})"


def _sample(texts: Iterable[str], size: int, rng: random.Random) -> list[str]:
    """A uniform sample in one pass (reservoir), normalized."""
    sample: list[str] = []
    for number, text in enumerate(texts):
        line = normalize(text)
        if len(sample) < size:
            sample.append(line)
        elif (place := rng.randrange(number + 1)) < size:
            sample[place] = line
    return sample
