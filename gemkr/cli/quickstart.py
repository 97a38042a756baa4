"""`gemkr quickstart`: the whole system on the embedded sample, each step by the command that a user would type.

Renders the scenes, builds the index, finds and encodes regions, mines clues, fine-tunes, and evaluates on
held-out scenes beside the ablations. Leaves `results.json`, TREC runs and `report.html`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gemkr.cli.numbers import natural, positive
from gemkr.cli.quickstart_folder import FOLDER_VARIABLE, claim_folder, clear_results
from gemkr.cli.quickstart_rows import ROWS, SCENES, TITLES, TOKENS, rows_of, table
from gemkr.files import lock

HELP = "run everything on the embedded sample: index, regions, training, evaluation, report"
PACKAGES = ("PIL", "torch", "transformers", "peft", "open_clip", "ultralytics")
"""What the steps import, looked for before the first one begins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("runs/quickstart"), help="default: runs/quickstart"
    )
    parser.add_argument(
        "--seed", type=natural, default=0, help="of the scenes, the questions and the training"
    )
    parser.add_argument("--max-steps", type=positive, help="train so many steps only (a smoke test)")
    parser.add_argument("--limit", type=positive, help="evaluate so many queries only (a smoke test)")


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable

    require_writable(args.output / "results.json")
    for package in PACKAGES:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    with lock(args.output / "quickstart.lock"):  # a second one would delete what the first has made so far
        claim_folder(args.output, args.seed)
        return Quickstart(args.output, args.seed, args.max_steps, args.limit).run()


class StepError(Exception):
    """A command of the quickstart ended with a status other than 0; it has printed why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass
class Quickstart:
    """One run of all steps into `folder`; earlier results there are replaced."""

    folder: Path
    seed: int = 0
    max_steps: int | None = None
    limit: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> int:
        """All steps; the exit status of the first one that fails, else 0."""
        began = time.perf_counter()
        before = os.environ.get(FOLDER_VARIABLE)
        os.environ[FOLDER_VARIABLE] = str(self.folder)
        try:
            self._prepare()
            self._train()
            rows = self._evaluate()
        except StepError as error:
            return error.status
        finally:
            os.environ.pop(FOLDER_VARIABLE)
            if before is not None:
                os.environ[FOLDER_VARIABLE] = before
        self.seconds["total"] = time.perf_counter() - began
        self._write(rows)
        return 0

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _prepare(self) -> None:
        from gemkr.sample import models_folder
        from gemkr.sample.facts import countries
        from gemkr.sample.flag_clip import write_flag_clip
        from gemkr.sample.materialize import materialize
        from gemkr.sample.scene_task import write_scene_task
        from gemkr.sample.small_bert import texts_of, write_small_bert
        from gemkr.sample.small_vlm import write_small_vlm

        models = models_folder()
        clear_results(self.folder)
        with self._step("render scenes"):
            materialize(self._data, self.seed)
            write_scene_task(self._data)
            write_flag_clip(models, self.folder / "clip")
            write_small_bert(self.folder / "bert", texts_of(self._data))
            write_small_vlm(self.folder / "llava", self.folder / "clip", countries())
        images, boxes, regions = self._data / "images", self.folder / "boxes.jsonl", self.folder / "regions"
        for left in (boxes, boxes.with_name(f"{boxes.name}.part")):
            left.unlink(missing_ok=True)
        corpus, index = self._data / "corpus.csv", self.folder / "corpus.fmi"
        tower = {"config": models / "flag-vit.json", "weights": models / "flag-vit.safetensors"}
        flags = {
            "weights": models / "flags.pt",
            "regions": 3,
            "confidence": 0.4,
            "image_size": 192,
            "batch": 32,
        }
        clues = {"forms": "long", "anchor": "opening", "full": True, "per_question": 1}
        with self._step("index"):
            _gemkr("index", "build", corpus, tokenizer=models / "llm", output=index)
        with self._step("detect regions"):
            _gemkr("regions", "detect", images, **flags, output=boxes)
        with self._step("encode regions"):
            _gemkr("regions", "encode", images, boxes, tower="flag-vit", **tower, output=regions)
        with self._step("mine clues"):
            mined = self.folder / "clues.jsonl"
            _gemkr(
                "mine",
                self._data / "train.jsonl",
                corpus=corpus,
                index=index,
                tokenizer=models / "llm",
                **clues,
                output=mined,
            )

    def _train(self) -> None:
        limit = [f"max_steps={self.max_steps}"] if self.max_steps else []
        with self._step("train"):
            _gemkr("train", "quickstart", f"output={self._model}", f"seed={self.seed}", *limit)
        with self._step("train preflmr"):
            _gemkr("train", "quickstart_preflmr", f"seed={self.seed}", *limit)
        with self._step("train vlm"):
            _gemkr("train", "quickstart_vlm", f"seed={self.seed}", *limit)

    @property
    def _model(self) -> Path:
        return self.folder / "train"

    def _evaluate(self) -> dict[str, dict[str, Any]]:
        rows = {}
        limit = [f"limit={self.limit}"] if self.limit else []
        for name, (file, changes) in ROWS.items():
            output = self.folder / "eval" / name
            with self._step(f"eval {name}"):
                words = [
                    f"queries={self._data / file}.jsonl",
                    f"output={output}",
                    f"retrievers.gemkr.model.checkpoint={self._model / 'final'}",
                    *changes,
                    *limit,
                ]
                _gemkr("eval", "quickstart", *words)
            rows |= {name if main else "random_document": row for main, row in rows_of(output)}
        output = self.folder / "eval" / TOKENS
        with self._step(f"eval {TOKENS}"):
            _gemkr("eval", "quickstart_preflmr", f"output={output}", *limit)
        ((_, rows[TOKENS]),) = rows_of(output)
        for name, file in SCENES.items():
            output = self.folder / "eval" / name
            with self._step(f"eval {name}"):
                _gemkr("eval", file, f"output={output}", *limit)
            ((_, rows[name]),) = rows_of(output)
        return rows

    def _write(self, rows: dict[str, dict[str, Any]]) -> None:
        from gemkr.cli.quickstart_report import write_quickstart_report
        from gemkr.files import write_atomically

        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        shutil.copyfile(self.folder / "eval" / "full" / "gemkr" / "run.trec", self.folder / "run.trec")
        report = write_quickstart_report(self.folder, {name: TITLES[name] for name in rows}, seconds)
        write_atomically(
            self.folder / "results.json", json.dumps({"rows": rows, "seconds": seconds}, indent=1) + "\n"
        )
        print()
        for line in table(rows):
            print(line)
        print(f"\n{seconds['total']:.0f} seconds; look at {report}")

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def _gemkr(*words: Any, **options: Any) -> None:
    """Run one command in this process, after printing it; an option `a_b=1` becomes `--a-b 1`, True the bare flag."""
    from gemkr.cli import main

    argv = [str(word) for word in words]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        argv += [flag] if value is True else [flag, str(value)]
    _say(argv)
    status = main(argv)
    if status:
        raise StepError(status)


def _say(words: Sequence[str]) -> None:
    print(f"\n$ gemkr {shlex.join(words)}", flush=True)
