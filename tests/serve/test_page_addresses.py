"""The addresses that the page makes of ids, as a JavaScript engine makes them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

API = Path(__file__).resolve().parents[2] / "gemkr" / "serve" / "page" / "api.js"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's module")
@pytest.mark.parametrize("image_id", ["test-0000", "a folder/a picture", "is it?", "no#1/é%2f&"])
def test_an_id_stays_one_path(tmp_path: Path, image_id: str) -> None:
    module = tmp_path / "api.mjs"
    module.write_bytes(API.read_bytes())
    script = f"import({json.dumps(module.as_uri())}).then((api) => console.log(api.imageOf({json.dumps(image_id)})))"
    said = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True).stdout
    parts = urlsplit(said.strip())
    assert (unquote(parts.path), parts.query, parts.fragment) == (f"/v1/images/{image_id}", "", "")
