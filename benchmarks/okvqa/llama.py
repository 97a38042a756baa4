"""`make okvqa-llama`: OK-VQA over Wikipedia passages by one pre-trained LLaMA with adapters, from the raw files to its table.

No ensemble and no expert: what a language model brings that learned its language elsewhere. Knows no model by name: the base
model is a folder, that of `make base-llm` or any other LLaMA's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa.cpu import CONFIGS, MAIN, Material
from benchmarks.okvqa.seeds import report_seeds
from benchmarks.okvqa.steps import exit_status, require_files, step
from gemkr.cli.numbers import positive
from gemkr.errors import DataError

CONFIG = "okvqa_wiki112k_llama"
EVALUATION = f"{CONFIGS}/eval/{CONFIG}.yaml"
DENSE = "dense"
"""The section whose vectors are made once for all seeds."""
SCORER = "learned_scorer"
"""The section of the scorer that learns once for all seeds."""
COMPUTES = (f"{MAIN}.model", f"retrievers.{DENSE}.encoder", f"retrievers.{SCORER}.scorer")
"""The sections of the evaluation that have a precision."""
LATER_SEEDS = ("generative", "random_in_span", "dense_inside", "both_inside", "learned_inside")
"""What has seeds of its own: all that needs the clues."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=positive, default=1, help="how many models to train (default 1)")
    parser.add_argument("--folder", type=Path, default=Path("runs") / CONFIG)
    default = Path(os.environ.get("GEMKR_LLAMA", "runs/base-llm"))
    parser.add_argument(
        "--llm", type=Path, default=default, help=f"the base model's folder (default {default})"
    )
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        help="what models compute in; fp32 is faster where the processor multiplies no bf16 (default that of the configurations)",
    )
    args = parser.parse_args()
    return exit_status("okvqa-llama", lambda: run(args.folder, args.llm, args.seeds, args.precision))


def run(home: Path, llm: Path, seeds: int, precision: str | None = None) -> None:
    """All seeds, one after the other, and the table. DataError where the base model or a file of the data is missing."""
    require_files(okvqa_cpu.TRAIN_QUESTIONS, okvqa_cpu.DEV_QUESTIONS, okvqa_cpu.CORPUS)
    if not llm.exists():
        raise DataError(f"there is no LLaMA at {llm}; run make base-llm, or name a folder in GEMKR_LLAMA")
    material = Material(llm, home / "wiki112k.fmi", home / "clues.jsonl")
    okvqa_cpu.build_index(okvqa_cpu.CORPUS, material.index, llm, "--document-array")
    okvqa_cpu.mine(okvqa_cpu.TRAIN_QUESTIONS, material.clues, material.index, llm, per_question=8)
    vectors = home / "minilm"
    weights = home / "scorer.safetensors"
    computing = [f"{section}.precision={precision}" for section in COMPUTES if precision]
    shared = [
        f"retrievers.{DENSE}.vectors={vectors}",
        f"retrievers.{SCORER}.scorer.weights={weights}",
        *computing,
    ]
    step(vectors, "embed", EVALUATION, DENSE, shared[0], *computing)
    step(weights, "fit", EVALUATION, SCORER, *shared, f"output={home / 'fit'}")
    for seed in range(seeds):
        here = home / f"seed{seed}"
        learning = [f"model.precision={precision}"] if precision else []
        final = okvqa_cpu.tune(CONFIG, here / "train", seed, material, settings=learning)
        settings = [
            f"{MAIN}.model.llm={llm}",
            f"{MAIN}.model.checkpoint={final}",
            f"{MAIN}.index={material.index}",
            *shared,
            f"output={here / 'eval'}",
        ]
        if seed:
            settings.append(f"evaluate=[{','.join(LATER_SEEDS)}]")
        step(here / "eval" / "metrics.json", "eval", EVALUATION, *settings)
    report_seeds(home, seeds)


if __name__ == "__main__":
    sys.exit(main())
