"""`make okvqa-encoder`: the small LLaMAs of `make okvqa-cpu` behind a pre-trained text encoder, to a table of three seeds.

The larger configuration that two cores carry: the encoder first learns to guess answers, then the LLaMAs learn to write through
what it has become, and a scorer over the same encoder learns to choose documents inside their clues' spans; they are scored
beside that guesser, and alone. Base models, index and clues are those of `make okvqa-cpu`, made here where they are not there
yet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa.seeds import OPPONENT, conclude
from benchmarks.okvqa.steps import answer, require_files
from gemkr.cli.numbers import positive

CONFIG = "okvqa_wiki112k_encoder"
ALONE = "model_alone"
WITHOUT_EXPERT = ("answer_expert=null", "baselines=[random_in_span,rescored_bm25]")
LATER = f"baselines=[random_in_span,rescored_bm25,{OPPONENT}]"
"""What is asked beside the second seed and all after it: what has seeds of its own, or the same clues."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=positive, default=3, help="how many models to train (default 3)")
    parser.add_argument("--folder", type=Path, default=Path("runs") / CONFIG)
    parser.add_argument(
        "--base", type=Path, default=Path("runs") / okvqa_cpu.CONFIG, help="of make okvqa-cpu"
    )
    args = parser.parse_args()
    return answer("okvqa-encoder", lambda: run(args.folder, args.base, args.seeds))


def run(home: Path, base: Path, seeds: int) -> None:
    """All seeds, one after the other, and the table."""
    require_files(okvqa_cpu.QUESTIONS, okvqa_cpu.ASKED, okvqa_cpu.CORPUS)
    weights = home / "classifier.safetensors"
    reading = f"model.text_encoder.weights={weights}"
    chosen = home / "scorer.safetensors"
    choosing = (f"learned_scorer.weights={chosen}", f"learned_scorer.vectors={home / 'passages.safetensors'}")
    for seed in range(seeds):
        material = okvqa_cpu.prepare(base, seed)
        evaluation = f"{okvqa_cpu.CONFIGS}/eval/{CONFIG}.yaml"
        okvqa_cpu.step(weights, "fit-expert", evaluation, reading, f"output={home / 'fit'}")
        okvqa_cpu.step(chosen, "fit-scorer", evaluation, reading, *choosing, f"output={home / 'fit'}")
        here = home / f"seed{seed}"
        final = okvqa_cpu.tune(CONFIG, here / "train", seed, material, settings=(reading,))
        scored = (reading, *choosing)
        later = (LATER,) if seed else ()
        okvqa_cpu.score(CONFIG, here / "eval", seed, material, final, settings=(*scored, *later))
        okvqa_cpu.score(CONFIG, here / ALONE, seed, material, final, settings=(*scored, *WITHOUT_EXPERT))
    conclude(home, seeds)
    print(f"\n{ALONE.replace('_', ' ')}, without the expert")
    conclude(home, seeds, kind=ALONE, summary=f"summary_{ALONE}.json")


if __name__ == "__main__":
    sys.exit(main())
