"""Pre-training of a small LLaMA from scratch: on the corpus and question-answer samples as packed rows, or on spans
withheld from the corpus (`gemkr.training.spans`).

Runs in the same loop and with the same checkpoints as fine-tuning, and leaves an ordinary Hugging Face folder with its
tokenizer. Pictures play no part here.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gemkr.config import LlamaConfig, ModelConfig, PretrainConfig, to_mapping
from gemkr.corpus import open_text, read_corpus
from gemkr.errors import CheckpointError, ConfigError, DataError
from gemkr.evaluation.files import require_writable_folder
from gemkr.models.gemkr import GeMKR
from gemkr.models.llm import LLM
from gemkr.models.prompt import Template, build_sample, default_template
from gemkr.models.shared import collate_shared
from gemkr.queries import read_queries
from gemkr.tokenization import tokenize_corpus
from gemkr.tokenizer import Tokenizer, load_tokenizer
from gemkr.training.checkpoint import Origin, hash_files
from gemkr.training.loop import Outcome, TrainingData, train
from gemkr.training.resume import ResumeFrom, find_resume
from gemkr.training.spans import SpanDataset
from gemkr.training.vocabulary import train_vocabulary
from gemkr.types import Query

KIND = "pretrain"
MODEL_FOLDER = "model"
TOKENIZER_FILES = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

logger = logging.getLogger(__name__)


class CausalLoss(nn.Module):
    """A Hugging Face causal LM as the loop wants it: batch -> mean cross entropy of the next token."""

    def __init__(self, llm: nn.Module) -> None:
        super().__init__()
        self.llm = llm

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.llm(input_ids=batch["labels"], labels=batch["labels"], use_cache=False).loss


@dataclass(frozen=True)
class PackedRows:
    """Sequences joined end to end and cut into rows: row i is int64[length], the incomplete last row is left out."""

    tokens: np.ndarray
    length: int

    def __len__(self) -> int:
        return len(self.tokens) // self.length

    def __getitem__(self, row: int) -> np.ndarray:
        return self.tokens[row * self.length : (row + 1) * self.length].astype(np.int64)


def pretrain(config: PretrainConfig, *, resume: ResumeFrom = None) -> Outcome:
    """Train and, unless a signal stopped the run, write `OUTPUT/model`.

    Memory: two to four bytes per corpus token, the model four times. Raises DataError for an unusable corpus,
    ConfigError for sizes that do not go together, CheckpointError as `train` does.
    """
    output = Path(config.output)
    where = find_resume(output, resume)
    require_writable_folder(output)
    tokenizer = _tokenizer(config, output)
    torch.manual_seed(config.seed)
    llm = build_llama(config.llama, tokenizer)
    model, data, data_hash = (_next_token if config.spans is None else _withheld_spans)(
        config, tokenizer, llm
    )
    logger.info("%d samples, %d pieces", len(data.dataset), tokenizer.vocab_size)
    size = sum(p.numel() for p in llm.parameters())
    logger.info("a LLaMA of %.2f M parameters", size / 1e6)
    origin = Origin(KIND, tokenizer.fingerprint(), data_hash, to_mapping(config))
    checkpoint = where.read(origin) if where else None
    outcome = train(
        model, data, config, origin, precision=config.precision, resume=checkpoint, title="pretrain"
    )
    if outcome.stopped_by is None:
        save_llama(llm, tokenizer, output / MODEL_FOLDER)
    return outcome


def _next_token(
    config: PretrainConfig, tokenizer: Tokenizer, llm: nn.Module
) -> tuple[nn.Module, TrainingData, str]:
    rows, data_hash = pack(config, tokenizer)
    return CausalLoss(llm), TrainingData(rows, collate, np.full(len(rows), config.sequence_tokens)), data_hash


def _withheld_spans(
    config: PretrainConfig, tokenizer: Tokenizer, llm: nn.Module
) -> tuple[nn.Module, TrainingData, str]:
    if config.lines is not None or config.repeat != 1:
        raise ConfigError(
            f"spans are withheld from the corpus alone: lines {config.lines!r} and repeat {config.repeat} have no part in "
            f"it; drop them, or drop spans"
        )
    if not config.prompt.caption:
        raise ConfigError("withheld spans are asked for in the caption's place; set prompt.caption to true")
    settings = ModelConfig(
        llm=config.output, lora=None, train_llm=True, prompt=config.prompt, precision=config.precision
    )
    model = GeMKR(settings, tokenizer, LLM(llm), None)
    corpus = tokenize_corpus(read_corpus(config.corpus), tokenizer)
    queries = [] if config.queries is None else list(read_queries(config.queries))
    answers = [answer for query in queries for answer in query.answers]
    dataset = SpanDataset(corpus, tokenizer, answers, model.input_builder(), config.spans, config.seed)
    collator = partial(collate_shared, pad_id=tokenizer.pad_id, eos_id=tokenizer.eos_ids[0])
    others = [] if config.queries is None else [config.queries]
    data_hash = f"{corpus.corpus_hash[:32]}{hash_files(others)[:32]}"
    return model, TrainingData(dataset, collator, dataset.lengths()), data_hash


def collate(rows: list[np.ndarray]) -> dict[str, Tensor]:
    """Rows of equal length -> {"labels": int64[B, T]}, which are the inputs as well."""
    return {"labels": torch.from_numpy(np.stack(rows))}


def build_llama(size: LlamaConfig, tokenizer: Tokenizer) -> nn.Module:
    """A `LlamaForCausalLM` with random weights, its vocabulary and special ids those of `tokenizer`."""
    import transformers

    if size.hidden % size.heads or (size.hidden // size.heads) % 2:
        raise ConfigError(
            f"llama.hidden {size.hidden} must be an even multiple of llama.heads {size.heads}; change one of them"
        )
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=size.context,
            tie_word_embeddings=size.tie_embeddings,
            bos_token_id=tokenizer.bos_id,
            eos_token_id=tokenizer.eos_ids[0],
        )
    )


def save_llama(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the Hugging Face folder (weights, configuration, tokenizer) under a temporary name, then rename it."""
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        source = Path(tokenizer.path)
        if source.is_dir():
            for name in TOKENIZER_FILES:
                if (source / name).is_file():
                    shutil.copyfile(source / name, part / name)
        else:
            name = "tokenizer.json" if source.suffix == ".json" else "tokenizer.model"
            shutil.copyfile(source, part / name)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(part, folder)
    except OSError as error:
        raise CheckpointError(
            f"the model folder {folder} cannot be written ({error.strerror}); free some space and resume"
        ) from error


def pack(config: PretrainConfig, tokenizer: Tokenizer) -> tuple[PackedRows, str]:
    """All sequences in a seeded order as rows of `sequence_tokens`, and a hash of what they were made from.

    Documents and lines stand as BOS, text, EOS; queries as the prompt that fine-tuning uses, an answer, EOS.
    """
    corpus = tokenize_corpus(read_corpus(config.corpus), tokenizer)
    dtype = corpus.tokens.dtype
    bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    before, after = np.array(bos, dtype), np.array(tokenizer.eos_ids[:1], dtype)
    extra = [
        np.asarray(sequence, dtype)
        for sequence in chain(
            _lines(config, tokenizer, bos), _questions(config, tokenizer, _template(config))
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
    others = [path for path in (config.queries, config.lines) if path is not None]
    return rows, f"{corpus.corpus_hash[:32]}{hash_files(others)[:32]}"


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


def _lines(config: PretrainConfig, tokenizer: Tokenizer, bos: list[int]) -> Iterator[list[int]]:
    if config.lines is None:
        return
    with open_text(config.lines) as stream:
        texts = [line.strip() for line in stream if line.strip()]
    for tokens in tokenizer.encode_batch(texts):
        for _ in range(config.repeat):
            yield [*bos, *tokens, tokenizer.eos_ids[0]]


def _template(config: PretrainConfig) -> Template:
    path = config.prompt.template
    return default_template() if path is None else Template.load(path)


def _tokenizer(config: PretrainConfig, output: Path) -> Tokenizer:
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    path, note = output / "tokenizer.model", output / "tokenizer.source.json"
    source: dict[str, Any] = {
        "corpus": hash_files([config.corpus]),
        "pieces": config.vocabulary.pieces,
        "lines": config.vocabulary.lines,
        "fold_case": config.vocabulary.fold_case,
        "seed": config.seed,
    }
    if not (path.is_file() and note.is_file() and json.loads(note.read_text()) == source):
        logger.info("learning a vocabulary of %d pieces", config.vocabulary.pieces)
        train_vocabulary(
            _texts(config),
            path,
            pieces=config.vocabulary.pieces,
            lines=config.vocabulary.lines,
            fold_case=config.vocabulary.fold_case,
            seed=config.seed,
        )
        note.write_text(json.dumps(source) + "\n")
    return load_tokenizer(path)


def _texts(config: PretrainConfig) -> Iterator[str]:
    sections = " ".join(_template(config).sections)
    for document in read_corpus(config.corpus):
        yield document.contents
    queries: Iterable[Query] = () if config.queries is None else read_queries(config.queries)
    for query in queries:
        yield f"{sections} {query.question} {query.caption or ''} {' , '.join(query.answers)}"
