"""What can be told of a training run before torch and models are loaded: a folder that is taken, material that is not there.

The run itself looks again, when it holds its folder. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from gemkr.data.clues import read_clues
from gemkr.data.corpus import read_corpus
from gemkr.data.judged import read_judged
from gemkr.data.queries import read_queries
from gemkr.data.run_folders import PRETRAIN, TRAIN
from gemkr.training.checkpoints.manifest import read_manifest
from gemkr.training.config import PretrainConfig, TrainConfig
from gemkr.training.loop.resume import ResumeFrom, require_free


def check_finetuning(config: TrainConfig, resume: ResumeFrom) -> None:
    """What `finetune` would raise for its output folder, an empty or absent file of its material (first rows are read), and a
    checkpoint to start from that is none."""
    require_free(config.output, resume, TRAIN)
    if config.model.checkpoint is not None and resume is None:
        read_manifest(config.model.checkpoint)
    _read_first(read_queries(config.data.queries))
    for clues in (config.data.clues, config.data.development):
        _read_first(() if clues is None else read_clues(clues))
    _read_first(() if config.rank_loss is None else read_judged(config.rank_loss.clues))


def check_pretraining(config: PretrainConfig, resume: ResumeFrom) -> None:
    """What `pretrain` would raise for its output folder, and an empty or absent corpus or query file."""
    require_free(config.output, resume, PRETRAIN)
    for corpus in (config.corpus, *config.further):
        _read_first(read_corpus(corpus))
    _read_first(() if config.queries is None else read_queries(config.queries))


def _read_first(rows: Iterable[object]) -> None:
    """Let a reader open its file and come to its first row; it raises what there is to say."""
    next(iter(rows), None)
