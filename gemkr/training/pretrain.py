"""Pre-training of a small LLaMA from scratch: the corpus and question-answer samples as packed rows.

Token embeddings may start from the co-occurrences in these rows. Runs in the same loop and with the same checkpoints as fine-tuning, and leaves an ordinary Hugging Face folder with its
tokenizer. Pictures play no part here.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from gemkr.config.files import to_mapping
from gemkr.data.corpus import read_corpus
from gemkr.data.queries import read_queries
from gemkr.errors import CheckpointError, ConfigError, DataError, first_line
from gemkr.files import part_of, require_writable_folder, write_atomically
from gemkr.models.gemkr.prompt import Template, build_sample, default_template
from gemkr.models.hf.folder import without_bars
from gemkr.text.tokenization import tokenize_corpus
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.config import LlamaConfig, PretrainConfig
from gemkr.training.cooccurrence import cooccurrence_embeddings
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumeFrom, ResumePoint, find_resume, holding
from gemkr.training.loop.trainer import Outcome, train
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
    require_writable_folder(config.output)
    with holding(config.output):
        return _pretrain(config, find_resume(config.output, resume))


def _pretrain(config: PretrainConfig, where: ResumePoint | None) -> Outcome:
    output = Path(config.output)
    tokenizer = _tokenizer(config, output, resumed=where is not None)
    rows, data_hash = pack(config, tokenizer)
    torch.manual_seed(config.seed)
    llm = build_llama(config.llama, tokenizer)
    size = sum(p.numel() for p in llm.parameters())
    logger.info("a LLaMA of %.2f M parameters; %d rows of %d tokens", size / 1e6, len(rows), rows.length)
    origin = Origin(KIND, tokenizer.fingerprint(), data_hash, to_mapping(config))
    checkpoint = where.read(origin) if where else None
    if config.embeddings is not None and checkpoint is None:
        _start_embeddings(llm, rows, tokenizer, config)
    if config.max_steps == 0:
        save_llama(llm, tokenizer, output / MODEL_FOLDER)
        return Outcome(0, 0, output / MODEL_FOLDER)
    data = TrainingData(rows, collate, np.full(len(rows), config.sequence_tokens))
    model = CausalLoss(llm)
    outcome = train(
        model, data, config, origin, precision=config.precision, resume=checkpoint, title="pretrain"
    )
    if outcome.stopped_by is None:
        save_llama(llm, tokenizer, output / MODEL_FOLDER)
    return outcome


def _start_embeddings(llm: nn.Module, rows: PackedRows, tokenizer: Tokenizer, config: PretrainConfig) -> None:
    """Put co-occurrence vectors in the place of random embeddings; sequences end where EOS stands."""
    settings = config.embeddings
    ends = np.flatnonzero(np.isin(rows.tokens, tokenizer.eos_ids)) + 1
    offsets = np.unique([0, *ends.tolist(), len(rows.tokens)])
    weight = llm.get_input_embeddings().weight
    found = cooccurrence_embeddings(
        rows.tokens, offsets, *weight.shape, window=settings.window, seed=config.seed
    )
    with torch.no_grad():
        weight.copy_(found * settings.norm)


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
    part = part_of(folder)
    try:
        shutil.rmtree(part, ignore_errors=True)
        with without_bars():
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
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise CheckpointError(
            f"the model folder {folder} cannot be written ({reason}); free some space and resume"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
            _further(config, tokenizer, before, after), _questions(config, tokenizer, _template(config))
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


def _template(config: PretrainConfig) -> Template:
    path = config.prompt.template
    return default_template() if path is None else Template.load(path)


def _tokenizer(config: PretrainConfig, output: Path, *, resumed: bool) -> Tokenizer:
    """The one that is named, else a vocabulary learned from the texts; a resumed run keeps that of its checkpoints."""
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
    if config.queries is not None:
        source |= {"queries": hash_files([config.queries]), "template": list(_template(config).sections)}
    if not path.is_file() or not (resumed or _noted(note) == source):
        logger.info("learning a vocabulary of %d pieces", config.vocabulary.pieces)
        note.unlink(missing_ok=True)
        train_vocabulary(
            _texts(config),
            path,
            pieces=config.vocabulary.pieces,
            lines=config.vocabulary.lines,
            fold_case=config.vocabulary.fold_case,
            seed=config.seed,
        )
        write_atomically(note, json.dumps(source) + "\n")
    return load_tokenizer(path)


def _noted(note: Path) -> Any:
    """What a vocabulary was learned from, None where that is not told or told in broken JSON."""
    try:
        return json.loads(note.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _texts(config: PretrainConfig) -> Iterator[str]:
    """What a vocabulary is learned from: the corpus, and the queries within the template's words."""
    sections = " ".join(_template(config).sections)
    for document in read_corpus(config.corpus):
        yield document.contents
    queries: Iterable[Query] = () if config.queries is None else read_queries(config.queries)
    for query in queries:
        yield f"{sections} {query.question} {query.caption or ''} {' , '.join(query.answers)}"
