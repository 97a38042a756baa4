"""Fine-tuning a GeMKR or a VLM on mined clues: puts model, data and loop together for one `TrainConfig`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from gemkr.config.ranges import require_ranges
from gemkr.data.clues import require_tokens
from gemkr.data.run_folders import TRAIN
from gemkr.models.gemkr.rows import RankWeight
from gemkr.models.gemkr.writer import Writer
from gemkr.models.writers.config import WriterConfig
from gemkr.training.checkpoints.learned import notes_on
from gemkr.training.config import TrainConfig
from gemkr.training.data import ClueDataset, PromptDataset, read_clue_dataset, read_judged_prompts
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumeFrom, ResumePoint, find_resume, lock_output
from gemkr.training.loop.trainer import Outcome
from gemkr.training.network import start_network, train_network
from gemkr.vision.pictures import PictureFolder, require_pictures
from gemkr.vision.store import RegionStore

KIND = "gemkr"

logger = logging.getLogger(__name__)


def finetune(config: TrainConfig, *, resume: ResumeFrom = None) -> Outcome:
    """Train the model of a configuration; leaves step-*/ and final/ in its output folder.

    With `model.checkpoint` the trained parameters start from there (a new run, not a resumed one). Raises as `train`
    does, and the errors of the model, the data and the pictures, before the first step.
    """
    with lock_output(config.output):
        return _finetune(config, find_resume(config.output, resume, TRAIN))


def _finetune(config: TrainConfig, point: ResumePoint | None) -> Outcome:
    pictures, regions = pictures_of(config.model, config.data)
    dataset = read_clue_dataset(config.data.queries, config.data.clues, not_built)
    development = None
    if config.data.development is not None:
        development = read_clue_dataset(
            config.data.queries, config.data.development, not_built, show_form=dataset.show_form
        )
    for part in (dataset, development):
        if part is not None:  # pictures that are missing are found out now, not in the third hour
            require_pictures(list(part.queries.values()), pictures, regions)
    model = start_network(config, point)
    build = model.input_builder(
        pictures,
        regions,
        max_prompt_tokens=config.data.max_prompt_tokens,
        hide_regions=config.data.hide_regions,
    )
    require_tokens(dataset.clues, model.tokenizer, config.data.clues)
    dataset = replace(dataset, build=build)
    if development is not None:
        require_tokens(development.clues, model.tokenizer, config.data.development)
        development = replace(development, build=build)
    logger.info("%d clues of %d queries", len(dataset), len(dataset.queries))
    data = _training_data(model, dataset, development, config)
    return train_network(config, model, data, KIND, _files(config), point, notes=notes_on(dataset.clues))


def _training_data(
    model: Writer, dataset: ClueDataset, development: ClueDataset | None, config: TrainConfig
) -> TrainingData:
    """One row per clue, one prompt for up to `clues_per_prompt` clues of a query, or a prompt with clues to rank as well."""
    per_prompt, rank = config.data.clues_per_prompt, config.rank_loss
    require_ranges(config.data)
    weight = None if rank is None else RankWeight(rank.weight, rank.sharpness)
    joined = model.collator(weight)
    learned, held_out = dataset, development or ()
    if per_prompt > 1 or rank is not None:
        learned = PromptDataset.of(dataset, per_prompt)
        held_out = () if development is None else PromptDataset.of(development, per_prompt)
    if rank is not None:
        learned = read_judged_prompts(learned, rank.clues, rank.per_prompt, model.tokenizer)
    return TrainingData(learned, joined, learned.lengths(), learned.groups(), held_out)


def pictures_of(model: WriterConfig, data: Any) -> tuple[PictureFolder | None, RegionStore | None]:
    """What a model is shown of pictures in training, by its settings and the `images` and `regions` of its data: some only where it
    could see them."""
    if not model.sees_pictures or data.images is None:
        return None, None
    shown = model.sees_regions and data.regions is not None
    return PictureFolder(data.images), RegionStore.open(data.regions) if shown else None


def not_built(*given: Any, **settings: Any) -> NoReturn:
    """In the place of an input builder, which only the loaded model has."""
    raise TypeError("the examples of a data set are built once the model is loaded")


def _files(config: TrainConfig) -> list[str | Path]:
    """The query and clue files, and the index of the region store, which holds its features' checksum."""
    files: list[str | Path] = [config.data.queries, config.data.clues]
    if config.data.development is not None:
        files.append(config.data.development)
    if config.rank_loss is not None:
        files.append(config.rank_loss.clues)
    if config.model.sees_regions and config.data.regions is not None:
        files.append(Path(config.data.regions) / "index.json")
    return files
