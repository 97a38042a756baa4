"""Pre-training of a small LLaMA from scratch: vocabulary, embeddings, packed rows and loop put together for one `PretrainConfig`.

Token embeddings may start from the co-occurrences in the rows. Runs in the same loop and with the same checkpoints as
fine-tuning, and leaves an ordinary Hugging Face folder with its tokenizer. Pictures play no part here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gemkr.config.files import to_mapping
from gemkr.data.corpus import read_corpus
from gemkr.data.queries import read_queries
from gemkr.data.run_folders import PRETRAIN
from gemkr.files import require_writable_folder, write_atomically
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.config import PretrainConfig
from gemkr.training.cooccurrence import cooccurrence_embeddings
from gemkr.training.llama import CausalLoss, build_llama, save_llama
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumeFrom, ResumePoint, find_resume, lock_output
from gemkr.training.loop.trainer import Outcome, train
from gemkr.training.packing import PackedRows, collate, pack, template_of
from gemkr.types import Query

KIND = "pretrain"
MODEL_FOLDER = "model"

logger = logging.getLogger(__name__)


def pretrain(config: PretrainConfig, *, resume: ResumeFrom = None) -> Outcome:
    """Train and, unless a signal stopped the run, write `OUTPUT/model`.

    Memory: two to four bytes per corpus token, the model four times. Raises DataError for an unusable corpus,
    ConfigError for sizes that do not go together, CheckpointError as `train` does.
    """
    require_writable_folder(config.output)
    with lock_output(config.output):
        return _pretrain(config, find_resume(config.output, resume, PRETRAIN))


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


def _tokenizer(config: PretrainConfig, output: Path, *, resumed: bool) -> Tokenizer:
    """The named tokenizer, else a vocabulary learned from the texts; a resumed run keeps that of its checkpoints."""
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
        source |= {"queries": hash_files([config.queries]), "template": list(template_of(config).sections)}
    if not path.is_file() or not (resumed or _read_source(note) == source):
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


def _read_source(note: Path) -> Any:
    """What a vocabulary was learned from, None where that is not recorded or in broken JSON."""
    try:
        return json.loads(note.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _texts(config: PretrainConfig) -> Iterator[str]:
    """What a vocabulary is learned from: the corpus, and the queries within the template's words."""
    sections = " ".join(template_of(config).sections)
    for document in read_corpus(config.corpus):
        yield document.contents
    queries: Iterable[Query] = () if config.queries is None else read_queries(config.queries)
    for query in queries:
        yield f"{sections} {query.question} {query.caption or ''} {' , '.join(query.answers)}"
