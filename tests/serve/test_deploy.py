"""What is deployed: the image's and the unit's commands are ones that the command line takes, and the image has its files."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from gemkr.cli import parse

ROOT = Path(__file__).resolve().parents[2]


def test_the_image_runs_a_known_command() -> None:
    text = (ROOT / "Dockerfile").read_text()
    command = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    assert command[0] == "gemkr"
    args = parse([*command[1:], "/mine/mine.yaml"])
    assert (args.host, args.config, args.workers) == ("0.0.0.0", "/mine/mine.yaml", 1)
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    health = json.loads(re.search(r"^HEALTHCHECK .*?CMD (.*)$", text, re.MULTILINE)[1])
    compile(health[2], "health", "exec")


def test_the_unit_runs_known_commands() -> None:
    text = (ROOT / "docs" / "gemkr.service").read_text()
    commands = re.findall(r"^ExecStart(?:Pre)?=/opt/gemkr/bin/gemkr (.*)$", text, re.MULTILINE)
    first, second = (parse(shlex.split(command)) for command in commands)
    assert first.check
    assert (second.host, second.port, second.config) == ("127.0.0.1", 8000, first.config)


def test_the_page_and_its_files_are_in_the_package() -> None:
    page = ROOT / "gemkr" / "serve" / "page"
    assert '"gemkr.serve" = ["page/*"]' in (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'(?:href|src)="/page/([^"]+)"', (page / "index.html").read_text())
    named += [one for path in page.glob("*.js") for one in re.findall(r'from "\./([^"]+)"', path.read_text())]
    assert named
    assert {path.name for path in page.iterdir()} == {"index.html", *named}
