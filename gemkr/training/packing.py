"""What pre-training reads: the corpus, further corpora and question-answer samples, joined end to end and cut into rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from gemkr.data.corpus import read_corpus
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError, DataError
from gemkr.models.gemkr.prompt import Template, build_sample, default_template
from gemkr.text.tokenization import tokenize_corpus
from gemkr.text.tokenizer import Tokenizer
from gemkr.training.checkpoints.origin import hash_files
from gemkr.training.config import PretrainConfig


@dataclass(frozen=True)
class PackedRows:
    """Sequences joined end to end and cut into rows: row i is int64[length], the incomplete last row is left out."""

    tokens: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.tokens) // self.length

    def __getitem__(self, row: int) -> np.ndarray:
        return self.tokens[row * self.length : (row + 1) * self.length].astype(np.int64)


def collate(rows: list[np.ndarray]) -> dict[str, Tensor]:
    """Rows of equal length -> {"labels": int64[B, T]}, which are the inputs as well."""
    return {"labels": torch.from_numpy(np.stack(rows))}


def pack(config: PretrainConfig, tokenizer: Tokenizer) -> tuple[PackedRows, str]:
    """All sequences in a seeded order as rows of `sequence_tokens`, and a hash of what they were made from.

    Documents stand as BOS, text, EOS; queries as the prompt that fine-tuning uses, an answer, EOS.
    """
    corpus = tokenize_corpus(read_corpus(config.corpus), tokenizer)
    dtype = corpus.tokens.dtype
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    before, after = np.array(bos, dtype), np.array(tokenizer.eos_ids[:1], dtype)
    extra = [
        np.asarray(sequence, dtype)
        for sequence in chain(
            _further(config, tokenizer, before, after), _questions(config, tokenizer, template_of(config))
        )
    ]
    rng = np.random.default_rng(config.seed)
    parts: list[np.ndarray] = []
    for number in rng.permutation(len(corpus) + len(extra)):
        if number < len(corpus):
            parts += [before, corpus.document(int(number)), after]
        else:
            parts.append(extra[number - len(corpus)])
    rows = PackedRows(np.concatenate(parts), config.sequence_tokens)
    if not len(rows):
        raise DataError(
            f"{config.corpus} gives {len(rows.tokens)} tokens, less than one row of {config.sequence_tokens}; "
            f"lower sequence_tokens"
        )
    if config.sequence_tokens > config.llama.context:
        raise ConfigError(
            f"sequence_tokens {config.sequence_tokens} exceeds llama.context {config.llama.context}; lower the first"
        )
    others = [*([] if config.queries is None else [config.queries]), *config.further]
    return rows, f"{corpus.corpus_hash[:32]}{hash_files(others)[:32]}"


def template_of(config: PretrainConfig) -> Template:
    """The prompt of question-answer samples: the named file, or the one that fine-tuning uses too."""
    path = config.prompt.template
    return default_template() if path is None else Template.load(path)


def _questions(config: PretrainConfig, tokenizer: Tokenizer, template: Template) -> Iterator[np.ndarray]:
    if config.queries is None:
        return
    for query in read_queries(config.queries):
        if not query.question or not query.answers:
            continue
        for turn in range(config.repeat):
            answer = query.answers[turn % len(query.answers)]
            yield build_sample(
                query,
                tokenizer,
                clue=tokenizer.encode(answer),
                form="short",
                caption=config.prompt.caption,
                detections=config.prompt.detections,
                template=template,
            ).tokens


def _further(
    config: PretrainConfig, tokenizer: Tokenizer, before: np.ndarray, after: np.ndarray
) -> Iterator[np.ndarray]:
    for path in config.further:
        corpus = tokenize_corpus(read_corpus(path), tokenizer)
        for number in range(len(corpus)):
            document = np.concatenate([before, corpus.document(number), after])
            yield from repeat(document, config.repeat)
