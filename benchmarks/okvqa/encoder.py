"""`make okvqa-encoder`: the small LLaMAs of `make okvqa-cpu` behind a pre-trained text encoder, to a table of three seeds.

The larger configuration for two cores: the encoder is first fine-tuned as an answer classifier, then the LLaMAs are trained
behind it, and a scorer over the same encoder learns to choose documents inside the clues' spans. They are evaluated with that
classifier as expert, and without it. Base models, index and clues are those of `make okvqa-cpu`, made here where they are
missing.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa.seeds import BASELINE, SAME_ENCODER, report_seeds
from benchmarks.okvqa.steps import exit_status, require_files
from gemkr.cli.numbers import positive

CONFIG = "okvqa_wiki112k_encoder"
ALONE = "model_alone"
PASSAGES = "dense"
"""The section whose vectors of passages the scorer reads."""
WITHOUT_EXPERT = f"{okvqa_cpu.MAIN}.answer_expert=null"
SAME_CLUES = ("generative", "random_in_span", "rescored_bm25")
"""What is evaluated of the model alone; of later seeds, also the retriever that is trained for each seed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=positive, default=3, help="how many models to train (default 3)")
    parser.add_argument("--folder", type=Path, default=Path("runs") / CONFIG)
    parser.add_argument(
        "--base", type=Path, default=Path("runs") / okvqa_cpu.CONFIG, help="of make okvqa-cpu"
    )
    args = parser.parse_args()
    return exit_status("okvqa-encoder", lambda: run(args.folder, args.base, args.seeds))


def run(home: Path, base: Path, seeds: int) -> None:
    """All seeds, one after the other, and the table."""
    require_files(okvqa_cpu.TRAIN_QUESTIONS, okvqa_cpu.DEV_QUESTIONS, okvqa_cpu.CORPUS)
    weights, chosen = home / "classifier.safetensors", home / "scorer.safetensors"
    main, scorer = okvqa_cpu.MAIN, f"{okvqa_cpu.MAIN}.scoring.inside_span.first"
    reading = f"{main}.model.text_encoder.weights={weights}"
    passages = home / "minilm"
    choosing = (f"{scorer}.weights={chosen}", f"retrievers.{PASSAGES}.vectors={passages}")
    evaluation = f"{okvqa_cpu.CONFIGS}/eval/{CONFIG}.yaml"
    for seed in range(seeds):
        material = okvqa_cpu.prepare(base, seed)
        fitted = f"output={home / 'fit'}"
        okvqa_cpu.step(weights, "fit", evaluation, SAME_ENCODER, reading, fitted)
        okvqa_cpu.step(passages, "embed", evaluation, PASSAGES, *choosing[1:])
        okvqa_cpu.step(chosen, "fit", evaluation, "learned_scorer", reading, *choosing, fitted)
        here = home / f"seed{seed}"
        tuning = (f"model.text_encoder.weights={weights}",)
        final = okvqa_cpu.tune(CONFIG, here / "train", seed, material, settings=tuning)
        bag = here / "bag_classifier.safetensors"
        score = partial(
            okvqa_cpu.score, CONFIG, seed=seed, material=material, checkpoint=final, classifier=bag
        )
        later = (*SAME_CLUES, BASELINE) if seed else ()
        score(output=here / "eval", settings=(reading, *choosing), evaluate=later)
        score(output=here / ALONE, settings=(reading, *choosing, WITHOUT_EXPERT), evaluate=SAME_CLUES)
    report_seeds(home, seeds)
    print(f"\n{ALONE.replace('_', ' ')}, without the expert")
    report_seeds(home, seeds, kind=ALONE, summary=f"summary_{ALONE}.json")


if __name__ == "__main__":
    sys.exit(main())
