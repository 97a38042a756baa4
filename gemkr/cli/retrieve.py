"""`gemkr retrieve CONFIG`: rank documents for the queries of an evaluation, without scoring them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.harness import RunResult
    from gemkr.models.gemkr.config import ModelConfig
    from gemkr.models.hf.config import TextEncoderConfig
    from gemkr.retrievers.sources import Sources

HELP = "rank documents for queries: run.trec, and run.jsonl with the evidence"
LEXICAL = ("queries", "corpus", "k")
"""Settings that a BM25 run depends on, beside its name."""
IRRELEVANT = ("output", "qrels", "match", "metrics", "baselines", "cards", "limit", "seed", "opponents")
"""Settings that no run depends on, but for `opponents`, which decide the runs of retrievers that learn from them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides and --restart, for every command that runs an EvalConfig."""
    parser.add_argument("config", type=Path, help="a YAML file, see eval_configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "--restart", action="store_true", help="drop the results in the output folder and start over"
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_config
    from gemkr.evaluation.config import EvalConfig
    from gemkr.files import require_writable_folder
    from gemkr.retrievers import require_known

    config = load_config(args.config, EvalConfig, args.overrides)
    require_known(config.retriever)
    require_writable_folder(config.output)
    from gemkr.retrievers.sources import Sources

    result = retrieve(config, Sources(config), config.retriever, Path(config.output), restart=args.restart)
    print(Path(config.output) / "run.trec")
    say_speed(config.retriever, result)
    return 0


def retrieve(
    config: EvalConfig, sources: Sources, name: str, folder: Path, *, restart: bool = False
) -> RunResult:
    """Run the retriever of this name over the configuration's queries into a folder, resuming what is there."""
    from gemkr.evaluation.harness import retrieve_into
    from gemkr.retrievers import build_retriever

    return retrieve_into(
        folder,
        lambda: build_retriever(config, sources, name=name),
        sources.queries,
        config.k,
        settings=run_settings(config, name),
        restart=restart,
        label=name,
    )


def run_settings(config: EvalConfig, name: str) -> dict[str, Any]:
    """What decides a run's results: its settings, and size and time of the files it reads.

    Weights of answer classifiers are not among them: such a file knows itself what it was learned from.
    """
    from gemkr.config.files import to_mapping
    from gemkr.evaluation.harness import file_stamp
    from gemkr.retrievers import learns

    learned = learns(name) and config.opponents is not None
    members = config.opponents.fused if learned and name == "fusion" else (name,)
    lexical = all(member.startswith("bm25") or learns(member) for member in members)
    values = {
        key: value
        for key, value in to_mapping(config).items()
        if (key in LEXICAL if lexical else key not in IRRELEVANT) or (learned and key == "opponents")
    }
    files = {"queries": config.queries, "corpus": config.corpus}
    if learned:
        files["train"] = config.opponents.train
        if config.opponents.encoder is not None and "encoder_classifier_coverage" in members:
            files |= _encoder_files(config.opponents.encoder.encoder, "opponents.encoder.")
    if not lexical:
        files |= {"index": config.index, "regions": config.regions}
        if config.model is not None:
            files |= _model_files(config.model)
            if config.model.tower is not None:
                files["images"] = config.images
        for number, member in enumerate(config.ensemble):
            files |= _model_files(member, f"ensemble.{number}.")
        expert = config.answer_expert
        if expert is not None:
            files["answer_expert.train"] = expert.train
            if expert.encoder is not None:
                files |= _encoder_files(expert.encoder.encoder, "answer_expert.encoder.")
        if config.learned_scorer is not None:
            files["learned_scorer.train"] = config.learned_scorer.train
            files |= _encoder_files(config.learned_scorer.encoder, "learned_scorer.encoder.")
    return {**values, "retriever": name, "files": {what: file_stamp(path) for what, path in files.items()}}


def _model_files(model: ModelConfig, prefix: str = "") -> dict[str, str | None]:
    """Every path that a model is read from."""
    files = {"llm": model.llm, "checkpoint": model.checkpoint, "tokenizer": model.tokenizer}
    files["prompt.template"] = model.prompt.template
    if model.tower is not None:
        files |= {"tower.config": model.tower.config, "tower.weights": model.tower.weights}
    if model.text_encoder is not None:
        files |= _encoder_files(model.text_encoder, "text_encoder.")
    return {prefix + what: path for what, path in files.items()}


def _encoder_files(encoder: TextEncoderConfig, prefix: str) -> dict[str, str | None]:
    return {f"{prefix}folder": encoder.folder, f"{prefix}weights": encoder.weights}


def say_speed(name: str, result: RunResult) -> None:
    """One line on stderr: how many queries, how fast, how many were there already."""
    parts = [f"{name}: {len(result.rankings):,} queries"]
    if result.resumed:
        parts.append(f"{result.resumed:,} of them from an earlier run")
    if result.seconds > 0:
        parts.append(f"{result.answered / result.seconds:,.1f} a second")
    print(", ".join(parts), file=sys.stderr)
