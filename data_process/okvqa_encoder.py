"""`make okvqa-encoder`: the small LLaMAs of `make okvqa-cpu` behind a pre-trained text encoder, to a table of three seeds.

The larger configuration that two cores carry: the encoder first learns to guess answers, then the LLaMAs learn to write through
what it has become. Base models, index and clues are those of `make okvqa-cpu`, made here where they are not there yet.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from data_process import okvqa_cpu
from data_process.seeds import conclude

CONFIG = "okvqa_wiki112k_encoder"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many models to train (default 3)")
    parser.add_argument("--folder", type=Path, default=Path("runs") / CONFIG)
    parser.add_argument(
        "--base", type=Path, default=Path("runs") / okvqa_cpu.CONFIG, help="of make okvqa-cpu"
    )
    args = parser.parse_args()
    if not okvqa_cpu.CORPUS.is_file():
        print(
            f"okvqa-encoder needs {okvqa_cpu.CORPUS}; set GEMKR_SHARED to the folder that holds data/",
            file=sys.stderr,
        )
        return 1
    began = time.perf_counter()
    weights = args.folder / "classifier.safetensors"
    reading = f"model.text_encoder.weights={weights}"
    for seed in range(args.seeds):
        material = okvqa_cpu.prepare(args.base, seed)
        evaluation = f"eval_configs/{CONFIG}.yaml"
        okvqa_cpu.step(weights, "fit-expert", evaluation, reading, f"output={args.folder / 'fit'}")
        here = args.folder / f"seed{seed}"
        final = okvqa_cpu.tune(CONFIG, here / "train", seed, material, settings=(reading,))
        okvqa_cpu.score(CONFIG, here / "eval", seed, material, final, settings=(reading,))
    conclude(args.folder, args.seeds)
    print(f"all steps of this run: {(time.perf_counter() - began) / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
