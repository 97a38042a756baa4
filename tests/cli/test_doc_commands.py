"""Every `gemkr` command that the guides and the notes show is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template

import pytest

from gemkr.cli import parse

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "docs/reproduce.md",
    "docs/guide.md",
    "benchmarks/okvqa/notes/photos.md",
    "benchmarks/qa_passages/README.md",
]


def commands(document: str) -> list[str]:
    """The lines of a document's code blocks that run gemkr: continued lines joined, exported variables filled in."""
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines = [part for line in lines for part in ([line] if line.startswith("gemkr ") else line.split("; "))]
    exported = [
        word
        for line in lines
        if re.match(r"(?:export )?[A-Z]\w*=", line)
        for word in shlex.split(line.removeprefix("export "), comments=True)
    ]
    values = dict(word.split("=", 1) for word in exported)
    return [Template(line).safe_substitute(values) for line in lines if line.startswith("gemkr ")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_a_document_are_known(document: str) -> None:
    shown = commands(document)
    assert shown
    for line in shown:
        parse(shlex.split(line, comments=True)[1:])


def test_the_configurations_that_the_documents_name_are_there() -> None:
    for document in DOCUMENTS:
        for line in commands(document):
            for name in re.findall(r"(?:(?:train|eval)_configs|benchmarks/\w+/configs)/[\w./-]+", line):
                assert (ROOT / name).is_file(), name
