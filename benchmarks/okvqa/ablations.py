"""`make okvqa-ablations`: what each part of `make okvqa-cpu` contributes, on all of dev, by removing it.

The complete system is its first seed; missing products of it are made first. Three groups: the system with two models and an
expert; its first model alone, where effects show that the other models mask; and that model over another corpus. Every row
is tested against the first row of its group.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa.cpu import MAIN, Material, Settings
from benchmarks.okvqa.seeds import RETRIEVER, TESTED, paired
from benchmarks.okvqa.steps import exit_status, require_files
from gemkr.evaluation.significance import paired_test
from gemkr.files import write_atomically

ALONE = (f"{MAIN}.answer_expert=null", f"{MAIN}.ensemble=[]")
REFERENCE = tuple(
    f"{MAIN}.{setting}"
    for setting in (
        *("decoding.beam_size=10", "decoding.groups=10", "decoding.diversity=0.5"),
        *("decoding.length_penalty=1.5", "decoding.max_tokens=9", "decoding.allow_eos=false"),
        *("decoding.word_start=false", "decoding.group_by_head=false", "scoring.method=reference"),
        *("scoring.inside_span=null", "decoding.end_at_word=false"),
    )
)
"""Decoding and ranking of the paper's published script (eval_configs/okvqa_gs112k.yaml)."""
WORDNET = okvqa_cpu.SHARED / "corpora" / "wordnet.csv.gz"
RANDOM = "a random document of each clue's span"
OTHER_RETRIEVERS = {
    "random_in_span": RANDOM,
    "coverage_alone": "coverage without BM25",
    "rescored_reference": "the reference's ranking",
    "rescored_seal": "SEAL's weights",
    "free_text": "without the index",
}
"""Further retrievers of an evaluation: the same clues under other rankings, the same models without the index."""


@dataclass(frozen=True)
class Row:
    """What a line of the table shows: a retriever of a finished evaluation."""

    label: str
    folder: Path
    retriever: str = RETRIEVER


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, default=Path("runs") / okvqa_cpu.CONFIG, help="of make okvqa-cpu"
    )
    args = parser.parse_args()
    return exit_status("okvqa-ablations", lambda: run(args.folder))


def run(home: Path) -> None:
    """All rows, then the table."""
    require_files(
        okvqa_cpu.TRAIN_QUESTIONS,
        okvqa_cpu.DEV_QUESTIONS,
        okvqa_cpu.CORPUS,
        *okvqa_cpu.EXTRA_CORPORA,
        WORDNET,
    )
    seed = Seed(home, *okvqa_cpu.first_model(home, 0))
    tabulate([system(seed), first_model_alone(seed), over_wordnet(seed)], home / "ablations" / "summary.json")


@dataclass(frozen=True)
class Seed:
    """The first seed of `make okvqa-cpu` in `home`: the material of its first model, and that model's checkpoint."""

    home: Path
    first: Material
    checkpoint: Path

    @property
    def vocabulary(self) -> Path:
        return self.home / "seed0" / "pretrain" / "tokenizer.model"

    def folder(self, name: str) -> Path:
        """Where an ablation keeps what it makes."""
        return self.home / "ablations" / name

    def score(
        self,
        name: str,
        *settings: str,
        material: Material | None = None,
        checkpoint: Path | None = None,
        also: Sequence[str] = (),
    ) -> Path:
        """Evaluate under an ablation's name, by default the first model; returns the folder."""
        output = self.folder(name) / "eval"
        okvqa_cpu.score(
            okvqa_cpu.CONFIG,
            output,
            0,
            material or self.first,
            checkpoint or self.checkpoint,
            classifier=okvqa_cpu.classifier_of(self.home, 0),
            settings=settings,
            evaluate=("generative", *also),
        )
        return output


def system(seed: Seed) -> list[Row]:
    """The two models and the expert; then without the expert, and without the second model."""
    second = okvqa_cpu.second_model(seed.home, 0, seed.first)
    whole = seed.home / "seed0" / "eval"
    bag = okvqa_cpu.classifier_of(seed.home, 0)
    okvqa_cpu.score(
        okvqa_cpu.CONFIG, whole, 0, seed.first, seed.checkpoint, classifier=bag, settings=[second]
    )
    rows = [Row("two models and the expert", whole), *_other_rows(whole)]
    rows.append(Row("without the expert", seed.score("no_expert", second, ALONE[0])))
    rows.append(Row("without the second model", seed.score("no_second", ALONE[1])))
    return rows


def first_model_alone(seed: Seed) -> list[Row]:
    """The first model by itself: other decoding, and models that learned from less."""
    whole = seed.score("alone", *ALONE, also=tuple(OTHER_RETRIEVERS))
    rows = [Row("the first model alone", whole), *_other_rows(whole)]
    rows.append(Row("reference decoding and ranking", seed.score("reference", *ALONE, *REFERENCE)))
    others = {
        "one_answer": ("one answer per question", one_answer(seed)),
        "half_data": ("half of the training questions", half_data(seed)),
        "no_pretraining": (
            "random token embeddings of that length",
            pretrained(seed, "no_pretraining", "embeddings.window=0"),
        ),
    }
    for name, (label, (material, settings)) in others.items():
        output = seed.folder(name) / "train"
        tuned = okvqa_cpu.tune(okvqa_cpu.CONFIG, output, 0, material, settings=settings)
        rows.append(Row(label, seed.score(name, *ALONE, material=material, checkpoint=tuned)))
    return rows


def over_wordnet(seed: Seed) -> list[Row]:
    """The first model over WordNet, a corpus it was not trained on."""
    there = replace(seed.first, index=seed.home / "wordnet.fmi")
    okvqa_cpu.build_index(WORDNET, there.index, seed.vocabulary)
    other, corpus = ("random_in_span", "coverage_alone", "bm25_caption"), f"corpus={WORDNET}"
    folder = seed.score("wordnet", *ALONE, corpus, material=there, also=other)
    return [
        Row("the first model alone over WordNet", folder),
        Row(RANDOM, folder, "random_in_span"),
        Row(OTHER_RETRIEVERS["coverage_alone"], folder, "coverage_alone"),
        Row("BM25, question + caption", folder, "bm25_caption"),
    ]


def one_answer(seed: Seed) -> tuple[Material, Settings]:
    """Clues of a single answer for each question."""
    clues = seed.folder("one_answer") / "clues.jsonl"
    okvqa_cpu.mine(okvqa_cpu.TRAIN_QUESTIONS, clues, seed.first.index, seed.vocabulary, per_question=1)
    return replace(seed.first, clues=clues), ()


def half_data(seed: Seed) -> tuple[Material, Settings]:
    """Half of the training questions, split by picture: for the base model's counts, the clues and the tuning."""
    folder = seed.folder("half_data")
    half, rest = folder / "questions.jsonl", folder / "rest.jsonl"
    split = ("split", okvqa_cpu.TRAIN_QUESTIONS, "--held-out", half, "--rest", rest, "--share", 0.5)
    okvqa_cpu.step(half, *split)
    material, _ = pretrained(seed, "half_data", f"queries={half}")
    clues = folder / "clues.jsonl"
    okvqa_cpu.mine(half, clues, seed.first.index, seed.vocabulary, per_question=8)
    return replace(material, clues=clues), (f"data.queries={half}",)


def pretrained(seed: Seed, name: str, setting: str) -> tuple[Material, Settings]:
    """The same vocabulary, index and clues with a base model of one other setting."""
    model = seed.folder(name) / "pretrain" / "model"
    okvqa_cpu.pretrain(model, 0, settings=[f"tokenizer={seed.vocabulary}", setting])
    return replace(seed.first, model=model), ()


def tabulate(groups: Sequence[Sequence[Row]], output: Path) -> None:
    """Print a table in which every row is tested against the first of its group, and keep it as `output`."""
    kept: list[Mapping[str, object]] = []
    for group in groups:
        print(f"\n{'':<38}" + "".join(f"{metric:>27}" for metric in TESTED))
        found = paired([(row.folder, row.retriever) for row in group])
        base = found[0]
        for row, values in zip(group, found, strict=True):
            line: dict[str, object] = {"row": row.label, "of": group[0].label, "folder": str(row.folder)}
            cells = []
            for metric, own, first in zip(TESTED, values, base, strict=True):
                line[metric] = own.mean()
                cell = f"{own.mean():.3f}"
                if row is not group[0]:
                    test = paired_test(first, own)
                    line[f"{metric} difference"], line[f"{metric} p"] = test.difference, test.p_value
                    cell += f" {test.difference:+.3f} (p {test.p_value:.4f})"
                cells.append(cell)
            kept.append(line)
            print(f"{row.label:<38}" + "".join(f"{cell:>27}" for cell in cells))
    write_atomically(output, json.dumps(kept, indent=1) + "\n")


def _other_rows(folder: Path) -> list[Row]:
    return [Row(label, folder, retriever) for retriever, label in OTHER_RETRIEVERS.items()]


if __name__ == "__main__":
    sys.exit(main())
