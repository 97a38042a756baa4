"""Training a reader: model, material and the one loop put together for one `ReaderTrainConfig`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from gemkr.answering.config import ReaderTrainConfig, reading_model
from gemkr.answering.material import ReaderDataset, read_material
from gemkr.config.ranges import require_ranges
from gemkr.data.run_folders import READER
from gemkr.models.gemkr.config import require_passage
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training.finetune import not_built, pictures_of
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumeFrom, ResumePoint, find_resume, lock_output
from gemkr.training.loop.trainer import Outcome
from gemkr.training.network import start_network, train_network
from gemkr.vision.pictures import require_pictures

KIND = "reader"

logger = logging.getLogger(__name__)


def train_reader(config: ReaderTrainConfig, *, resume: ResumeFrom = None) -> Outcome:
    """Train the reader of a configuration; leaves step-*/ and final/ in its output folder.

    With `model.checkpoint` the trained parameters start from there, also from those of a model that writes clues. Raises as
    `train` does, and whatever model and material have to complain about, before the first step.
    """
    with lock_output(config.output):
        return _train(
            replace(config, model=reading_model(config.model)), find_resume(config.output, resume, READER)
        )


def _train(config: ReaderTrainConfig, point: ResumePoint | None) -> Outcome:
    require_ranges(config.data)
    require_passage(config.model, "a reader")
    data, tokenizer = config.data, load_tokenizer(config.model.tokenizer or config.model.llm)
    pictures, regions = pictures_of(config.model, data)
    dataset = read_material(data, data.queries, not_built, tokenizer)
    held_out: ReaderDataset | tuple = ()
    if data.development is not None:
        held_out = read_material(data, data.development, not_built, tokenizer)
        require_pictures(list(held_out.queries.values()), pictures, regions)
    require_pictures(list(dataset.queries.values()), pictures, regions)
    model = start_network(config, point)
    build = model.input_builder(
        pictures, regions, max_prompt_tokens=data.max_prompt_tokens, hide_regions=data.hide_regions
    )
    dataset = replace(dataset, build=build)
    if held_out:
        held_out = replace(held_out, build=build)
    logger.info("%d readings of %d queries", len(dataset), len(dataset.queries))
    material = TrainingData(dataset, model.collator(), dataset.lengths(), dataset.groups(), held_out)
    return train_network(config, model, material, KIND, _files(config), point, title="train the reader")


def _files(config: ReaderTrainConfig) -> list[str | Path]:
    data = config.data
    files: list[str | Path] = [data.queries, data.run, data.corpus]
    if data.development is not None:
        files.append(data.development)
    if config.model.tower is not None and data.regions is not None:
        files.append(Path(data.regions) / "index.json")
    return files
