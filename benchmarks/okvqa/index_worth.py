"""What the index is worth: a pre-trained LLaMA that learned clues of three forms over wiki112k writes under that corpus, under the
part of it that no training clue came from, and under WordNet, with the index and without it.

    python -m benchmarks.okvqa.index_worth --train TRAIN --questions HELD_OUT

Both are query files of `gemkr split`; the models and the ranking are those of `make okvqa-llama`, with ten beams.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.okvqa import cpu as okvqa_cpu
from benchmarks.okvqa.ablations import RANDOM, WORDNET, Row, tabulate
from benchmarks.okvqa.cpu import CORPUS, MAIN, Material, Settings
from benchmarks.okvqa.llama import CONFIG, EVALUATION
from benchmarks.okvqa.steps import exit_status, require_files, step
from gemkr.data.clues import read_clues
from gemkr.data.corpus import read_corpus
from gemkr.errors import DataError
from gemkr.files import write_atomically

LONGEST = 9
"""Tokens of a long clue, as in the paper."""
PUBLISHED = ("groups=10", "diversity=0.5", "length_penalty=1.5", "allow_eos=false", "end_at_word=false")
"""The paper's decoding, for the paper's clues; they begin as a passage does, not always with a word."""
ROWS = {"generative": "", "free_text": "without the index", "random_in_span": RANDOM}


@dataclass(frozen=True)
class Form:
    """Clues of one form: how they are mined, and the decoding that suits them."""

    mining: Settings
    decoding: Settings = ()


FORMS = {
    "answer": Form(("--forms", "short", "--per-question", "8")),
    "opening": Form(
        ("--forms", "long", "--anchor", "opening", "--per-question", "8"),
        ("max_tokens=10", "group_by_head=false"),
    ),
    "long": Form(
        ("--forms", "long", "--full", "--max-tokens", str(LONGEST), "--per-question", "4"),
        (f"max_tokens={LONGEST}", "group_by_head=false", "word_start=false", *PUBLISHED),
    ),
}
"""The answer itself; the beginning of a passage with an answer, until unique; nine tokens from the answer on (the paper's)."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="the questions that the models learn from")
    parser.add_argument("--questions", type=Path, required=True, help="the questions that are asked")
    parser.add_argument("--folder", type=Path, default=Path("runs/okvqa_index_worth"))
    default = Path(os.environ.get("GEMKR_LLAMA", "runs/base-llm"))
    parser.add_argument(
        "--llm", type=Path, default=default, help=f"the base model's folder (default {default})"
    )
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), help="default all")
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), help="as of python -m benchmarks.okvqa.llama"
    )
    args = parser.parse_args()
    computing = [f"precision={args.precision}"] if args.precision else []
    return exit_status(
        "index-worth", lambda: run(args.folder, args.llm, args.train, args.questions, args.forms, computing)
    )


def run(
    home: Path,
    llm: Path,
    train: Path,
    questions: Path,
    forms: Sequence[str],
    computing: Settings = (),
) -> None:
    """Learn and ask all forms, the model under the settings `computing`, then print the table. DataError where a file is missing."""
    require_files(train, questions, CORPUS, WORDNET)
    if not llm.exists():
        raise DataError(f"there is no LLaMA at {llm}; run make base-llm, or name a folder in GEMKR_LLAMA")
    whole = home / "wiki112k.fmi"
    okvqa_cpu.build_index(CORPUS, whole, llm, "--document-array")
    models = {
        name: learn(
            home / name, FORMS[name], Material(llm, whole, home / name / "clues.jsonl"), train, computing
        )
        for name in forms
    }
    unseen = home / "unseen.csv.gz"
    if not unseen.exists():
        keep_unseen(unseen, [home / name / "clues.jsonl" for name in forms])
    corpora = {"wiki112k": CORPUS, "unseen": unseen, "wordnet": WORDNET}
    for corpus, file in corpora.items():
        okvqa_cpu.build_index(file, home / f"{corpus}.fmi", llm, "--document-array")
    groups = []
    for name, (material, final) in models.items():
        for corpus, file in corpora.items():
            there = replace(material, index=home / f"{corpus}.fmi")
            output = ask(home / name / corpus, FORMS[name], there, final, file, questions, computing)
            groups.append(
                [
                    Row(f"{name}, {corpus}: {label or 'under the index'}", output, row)
                    for row, label in ROWS.items()
                ]
            )
    tabulate(groups, home / "summary.json")


def learn(
    folder: Path, form: Form, material: Material, train: Path, computing: Settings = ()
) -> tuple[Material, Path]:
    """A model that learned clues of one form, each question once; returns its checkpoint too."""
    sources = (
        "--corpus",
        CORPUS,
        "--index",
        material.index,
        "--tokenizer",
        material.model,
        "-o",
        material.clues,
    )
    step(material.clues, "mine", train, *sources, *form.mining)
    settings = (f"data.queries={train}", "epochs=1", *(f"model.{setting}" for setting in computing))
    return material, okvqa_cpu.tune(CONFIG, folder / "train", 0, material, settings=settings)


def keep_unseen(path: Path, clue_files: Sequence[Path]) -> None:
    """Write the passages of wiki112k that no clue came from, so many that they are half of it at most."""
    seen = {clue.doc_id for file in clue_files for clue in read_clues(file)}
    documents = list(read_corpus(CORPUS))
    unseen = [document for document in documents if document.doc_id not in seen][: len(documents) // 2]
    text = io.StringIO()
    csv.writer(text).writerows([("kid", "text"), *((each.doc_id, each.contents) for each in unseen)])
    write_atomically(path, gzip.compress(text.getvalue().encode()))
    print(f"{path}: {len(unseen):,} passages of {len(documents):,}, {len(seen):,} of which a clue came from")


def ask(
    folder: Path,
    form: Form,
    material: Material,
    final: Path,
    corpus: Path,
    questions: Path,
    computing: Settings = (),
) -> Path:
    """Ask the questions over a corpus; returns the folder of the evaluation."""
    decoding = [f"{MAIN}.decoding.{setting}" for setting in ("beam_size=10", *form.decoding)]
    settings = [
        *(
            f"{MAIN}.model.llm={material.model}",
            f"{MAIN}.model.checkpoint={final}",
            f"{MAIN}.index={material.index}",
        ),
        *(f"queries={questions}", f"corpus={corpus}", f"output={folder}", f"evaluate=[{','.join(ROWS)}]"),
        *decoding,
        *(f"{MAIN}.model.{setting}" for setting in computing),
    ]
    step(folder / "metrics.json", "eval", EVALUATION, *settings)
    return folder


if __name__ == "__main__":
    sys.exit(main())
