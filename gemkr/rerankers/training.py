"""Training of a reranker that asks a language model: model, material and the one loop put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gemkr.data.run_folders import TRAIN
from gemkr.models.gemkr.config import require_passage_in
from gemkr.models.gemkr.prompt import Template
from gemkr.models.gemkr.writer import Writer
from gemkr.rerankers.asking import answer_tokens, prompt_end, prompts_of
from gemkr.rerankers.candidates import Candidate, sees_documents
from gemkr.rerankers.config import RerankConfig, RerankerTrainConfig
from gemkr.rerankers.listwise import KIND as LISTWISE
from gemkr.rerankers.listwise import list_prompt, number_words
from gemkr.rerankers.material import Build, read_material
from gemkr.rerankers.yes_no import KIND as YES_NO
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.training.finetune import not_built, pictures_of
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumeFrom, ResumePoint, find_resume, lock_output
from gemkr.training.loop.trainer import Outcome
from gemkr.training.network import start_network, train_network
from gemkr.types import Query
from gemkr.vision.pictures import require_pictures

KIND = "reranker"


def train_reranker(config: RerankerTrainConfig, *, resume: ResumeFrom = None) -> Outcome:
    """Train the model of a configuration to answer what yes_no and listwise ask; leaves step-*/ and final/ in its output folder.

    With `model.checkpoint` the trained parameters start from there, also from those of a model that writes clues. Raises as
    `train` does, and whatever model and material have to complain about, before the first step.
    """
    with lock_output(config.output):
        return _train(config, find_resume(config.output, resume, TRAIN))


def _train(config: RerankerTrainConfig, point: ResumePoint | None) -> Outcome:
    rerank, tokenizer = config.rerank, load_tokenizer(config.model.vocabulary)
    answers = _answers(config, tokenizer)
    pictures, regions = pictures_of(config.model, rerank)
    shown = sees_documents(config.model, pictures)
    dataset = read_material(rerank, config.seed, dict.fromkeys(rerank.samples, not_built), pictures=shown)
    require_pictures(list(dataset.queries.values()), pictures, regions)
    if shown:
        docs = dict.fromkeys(doc for sample in dataset.samples for doc in sample.docs)
        require_pictures([dataset.documents[doc] for doc in docs], pictures, None, of="documents")
    model = start_network(config, point)
    build = model.input_builder(pictures, regions, hide_regions=rerank.hide_regions)
    dataset = replace(dataset, builds=_builds(rerank, build, answers, model))
    data = TrainingData(dataset, model.collator(), dataset.lengths(), dataset.groups())
    return train_network(config, model, data, KIND, _files(config), point, title="train the reranker")


def _answers(config: RerankerTrainConfig, tokenizer: Tokenizer) -> dict[str, list[int]]:
    """The answer tokens of each kind of sample; ModelError for words that are not one token each."""
    found, rerank = {}, config.rerank
    if {"yes", "no"} & set(rerank.samples):
        template = require_passage_in(rerank.pointwise_template, f"the reranker {YES_NO}")
        remedy = "set rerank.yes and rerank.no to two words of one token each"
        yes, no = answer_tokens(
            tokenizer, prompt_end(config.model, template), (rerank.yes, rerank.no), YES_NO, remedy
        )
        found |= {"yes": [yes], "no": [no]}
    if LISTWISE in rerank.samples:
        template = require_passage_in(rerank.listwise_template, f"the reranker {LISTWISE}")
        words, end = number_words(rerank.list_size), prompt_end(config.model, template)
        found[LISTWISE] = answer_tokens(tokenizer, end, words, LISTWISE, "lower rerank.list_size")
    return found


def _builds(
    rerank: RerankConfig, build: Any, answers: dict[str, list[int]], model: Writer
) -> dict[str, Build]:
    """What builds each kind of sample: the prompts that reranking shows, with their answer behind them."""
    pointwise = build.under(Template.load(rerank.pointwise_template), rerank.max_prompt_tokens)
    listwise = build.under(Template.load(rerank.listwise_template), None)

    def about_one(query: Query, shown: Sequence[Candidate], _: int, *, kind: str) -> Any:
        prompts = prompts_of(pointwise, tidied=rerank.tidy, clue=answers[kind])
        return unended(prompts(query, passage=shown[0].passage, images=shown[0].images))

    def about_several(query: Query, shown: Sequence[Candidate], place: int) -> Any:
        prompts = prompts_of(listwise, tidied=rerank.tidy, clue=[answers[LISTWISE][place]])
        return unended(list_prompt(prompts, model.tokenizer, query, shown, rerank.max_prompt_tokens))

    makers = {
        "yes": partial(about_one, kind="yes"),
        "no": partial(about_one, kind="no"),
        LISTWISE: about_several,
    }
    return {kind: makers[kind] for kind in rerank.samples}


def unended(example: Any) -> Any:
    """The example without the end behind its answer: no reranker reads it, and it would be half of what is learned."""
    return replace(example, sample=replace(example.sample, tokens=example.sample.tokens[:-1]))


def _files(config: RerankerTrainConfig) -> list[str | Path]:
    rerank = config.rerank
    files: list[str | Path] = [rerank.queries, rerank.run, rerank.corpus]
    if config.model.sees_regions and rerank.regions is not None:
        files.append(Path(rerank.regions) / "index.json")
    return files
