"""`make okvqa-cpu`: OK-VQA over Wikipedia passages on two cores, from the raw files to a table of three seeds.

Runs the project's own commands one after the other (`steps`), so that an interrupted run continues. Knows no figures but those
that the commands write.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.okvqa.seeds import BASELINE, report_seeds
from benchmarks.okvqa.steps import exit_status, require_files, resume_options, step
from gemkr.cli.numbers import positive

CONFIGS = "benchmarks/okvqa/configs"
CONFIG = "okvqa_wiki112k_cpu"
SHARED = Path(os.environ.get("GEMKR_SHARED", "../shared")) / "data"
TRAIN_QUESTIONS = SHARED / "okvqa" / "train.jsonl"
DEV_QUESTIONS = SHARED / "okvqa" / "dev.jsonl"
CORPUS = SHARED / "corpora" / "wiki112k.csv.gz"
EXTRA_CORPORA = (SHARED / "corpora" / "wordnet.csv.gz", SHARED / "qa_passages" / "passages.jsonl.gz")
"""What a second base model is pre-trained on besides the corpus: definitions, and passages on other questions."""
SEED_OFFSET = 10
"""Difference between the seeds of the two models of an ensemble."""
MAIN = "retrievers.generative"
"""The section of the retriever whose models are trained here."""
BAG = f"retrievers.{BASELINE}.guesser"
"""The section of the bag-of-words classifier."""

Settings = Sequence[str]
"""`key=value` words of a command."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=positive, default=3, help="how many models to train (default 3)")
    parser.add_argument("--folder", type=Path, default=Path("runs") / CONFIG)
    args = parser.parse_args()
    return exit_status("okvqa-cpu", lambda: run(args.folder, args.seeds))


def run(home: Path, seeds: int) -> None:
    """All seeds, one after the other, and the table."""
    require_files(TRAIN_QUESTIONS, DEV_QUESTIONS, CORPUS, *EXTRA_CORPORA)
    for seed in range(seeds):
        material, first = first_model(home, seed)
        second = second_model(home, seed, material)
        output, classifier = home / f"seed{seed}" / "eval", classifier_of(home, seed)
        score(CONFIG, output, seed, material, first, classifier=classifier, settings=[second])
    report_seeds(home, seeds)


@dataclass(frozen=True)
class Material:
    """What a seed is tuned and scored with: its base model, and the index and clues that all seeds share."""

    model: Path
    index: Path
    clues: Path


def prepare(home: Path, seed: int) -> Material:
    """Pre-train the base model of a seed in `home`; with the first one's vocabulary index the corpus and mine clues."""
    vocabulary = home / "seed0" / "pretrain" / "tokenizer.model"
    found = Material(home / f"seed{seed}" / "pretrain" / "model", home / "wiki112k.fmi", home / "clues.jsonl")
    pretrain(found.model, seed, settings=[f"tokenizer={vocabulary}"] if seed else [])
    build_index(CORPUS, found.index, vocabulary, "--document-array")
    mine(TRAIN_QUESTIONS, found.clues, found.index, vocabulary, per_question=8)
    return found


def first_model(home: Path, seed: int) -> tuple[Material, Path]:
    """The material of a seed's first model, and its checkpoint."""
    material = prepare(home, seed)
    return material, tune(CONFIG, home / f"seed{seed}" / "train", seed, material)


def second_model(home: Path, seed: int, first: Material) -> str:
    """The setting that adds a seed's second model to the ensemble: the same vocabulary and clues, but a base model
    whose embeddings also count further texts."""
    here = home / f"seed{seed}" / "broad"
    vocabulary = home / "seed0" / "pretrain" / "tokenizer.model"
    broad = replace(first, model=here / "pretrain" / "model")
    texts = f"further=[{','.join(map(str, EXTRA_CORPORA))}]"
    pretrain(broad.model, seed + SEED_OFFSET, settings=[texts, "repeat=3", f"tokenizer={vocabulary}"])
    return ensemble_setting(broad.model, tune(CONFIG, here / "train", seed + SEED_OFFSET, broad))


def pretrain(model: Path, seed: int, *, settings: Settings = ()) -> None:
    """A base model with settings of its own, a Hugging Face folder at `model`."""
    options = (f"output={model.parent}", f"seed={seed}", *settings)
    step(model, "pretrain", f"{CONFIGS}/pretrain/{CONFIG}.yaml", *resume_options(model.parent), *options)


def build_index(corpus: Path, index: Path, vocabulary: Path, *options: str) -> None:
    """An index of a corpus under a vocabulary."""
    step(index, "index", "build", corpus, "--tokenizer", vocabulary, "-o", index, *options)


def mine(questions: Path, clues: Path, index: Path, vocabulary: Path, *, per_question: int) -> None:
    """The answers to the questions that stand in the corpus, up to `per_question` each."""
    sources = ("--corpus", CORPUS, "--index", index, "--tokenizer", vocabulary, "-o", clues)
    step(clues, "mine", questions, *sources, "--forms", "short", "--per-question", per_question)


def tune(config: str, output: Path, seed: int, material: Material, *, settings: Settings = ()) -> Path:
    """Train `configs/train/CONFIG.yaml` with extra settings; returns the checkpoint."""
    model, final = f"model.llm={material.model}", output / "final"
    tuning = (f"data.clues={material.clues}", f"output={output}", f"seed={seed}")
    step(final, "train", f"{CONFIGS}/train/{config}.yaml", *resume_options(output), model, *settings, *tuning)
    return final


def score(
    config: str,
    output: Path,
    seed: int,
    material: Material,
    checkpoint: Path,
    *,
    classifier: Path,
    settings: Settings = (),
    evaluate: Sequence[str] = (),
) -> None:
    """Run `configs/eval/CONFIG.yaml` for a seed, with extra settings, after its bag-of-words classifier is learned into
    the file `classifier`; all retrievers for the first seed, the best baseline for all, unless `evaluate` names them."""
    path = f"{CONFIGS}/eval/{config}.yaml"
    learned = (f"{BAG}.seed={1000 * seed}", f"{BAG}.weights={classifier}")
    step(classifier, "fit", path, BASELINE, *learned, f"output={output}")
    scored = [
        f"{MAIN}.model.llm={material.model}",
        *settings,
        f"{MAIN}.model.checkpoint={checkpoint}",
        f"{MAIN}.index={material.index}",
        f"output={output}",
        *learned,
    ]
    if seed and not evaluate:
        evaluate = ("generative", "random_in_span", BASELINE)
    if evaluate:
        scored += [f"evaluate=[{','.join(evaluate)}]", "clue_control=false"]
    step(output / "metrics.json", "eval", path, *scored)


def classifier_of(home: Path, seed: int) -> Path:
    """Where a seed's bag-of-words classifier is kept."""
    return home / f"seed{seed}" / "classifier.safetensors"


def ensemble_setting(llm: Path, checkpoint: Path) -> str:
    """The setting that adds another small LLaMA to the ensemble, reading the same prompt."""
    files = f"llm: {json.dumps(str(llm.absolute()))}, checkpoint: {json.dumps(str(checkpoint.absolute()))}"
    return f'{MAIN}.ensemble=[{{{files}, lora: null, train_llm: true, prompt: "${{{MAIN}.model.prompt}}"}}]'


if __name__ == "__main__":
    sys.exit(main())
