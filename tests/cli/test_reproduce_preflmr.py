"""The commands of docs/reproduce.md for PreFLMR in miniature: synthetic weights under the published names, rows as M2KR has them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from string import Template

import pytest
import torch
from published_flmr import Theirs, publish
from tiny_flmr import save_tiny_text
from tiny_pictures import WORDS, save_pictures, save_tiny_clip
from tiny_tower import tiny_tower
from transformers import AutoConfig, CLIPConfig

from gemkr.cli import main
from gemkr.data.trec import read_run

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8").split("\n## PreFLMR\n")[1]
SIZES = ["width=8", "query_tokens=12", "document_tokens=20", "image_tokens=4", "seen_tokens=7"]


def save_base_models(folder: Path, names: tuple[str, str]) -> None:
    """A text and a vision tower as the packaged configuration names them, and weights of PreFLMR over them."""
    text, vision = (folder / name for name in names)
    save_tiny_text(text)
    save_tiny_clip(vision)
    torch.manual_seed(8)
    theirs = Theirs(AutoConfig.from_pretrained(text), CLIPConfig.from_pretrained(vision).vision_config, True)
    publish(theirs.eval(), folder / "PreFLMR_ViT-L", True)


def save_set(folder: Path) -> None:
    """Questions with ROIs, passages, pictures, and a report that ranks the right passage of two questions first."""
    save_pictures(folder / "pictures", [f"p{n}" for n in range(4)])
    rows = [
        {
            "question_id": f"OKVQA_{n}", "question": f"which {WORDS[n + 9]} is the one", "img_path": f"p{n}.png",
            "instruction": "find a photo:", "answers": [WORDS[n + 9]], "pos_item_ids": [f"OKVQA_p{n}"],
            "ROIs": [f"p{n}.png|||a cat_2_2_12_20"],
        }
        for n in range(4)
    ]  # fmt: skip
    passages = [{"passage_id": f"OKVQA_p{n}", "passage_content": f"a {WORDS[n + 9]}"} for n in range(6)]
    for name, table in (("okvqa_test", rows), ("okvqa_passages", passages)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    ranked = ["OKVQA_p0", "OKVQA_p1", "OKVQA_p5", "OKVQA_p5"]
    report = {
        f"OKVQA_{n}": {"retrieved_passage": [{"passage_id": p, "score": 1.0}]} for n, p in enumerate(ranked)
    }
    (folder / "okvqa_report.json").write_text(json.dumps(report))


def test_the_commands_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_base_models(tmp_path, ("bert-base-uncased", "clip-vit-large-patch14"))
    save_set(tmp_path)
    tiny_tower(tmp_path)
    monkeypatch.chdir(tmp_path)
    values = {"RAW": ".", "DATA": "data", "GEMKR_MODELS": ".", "GEMKR_TEST_IMAGES": "pictures"}
    (block,) = re.findall(r"```bash\n(.*?)```", SECTION, re.DOTALL)
    first, *lines = block.splitlines()
    values |= dict(
        word.split("=", 1)
        for word in shlex.split(Template(first).substitute(values).replace(".parquet", ".jsonl"))[1:]
    )
    for name in values.keys() - {"RAW", "DATA"}:
        monkeypatch.setenv(name, values[name])
    Path("data").mkdir()
    printed = []
    for line in lines:
        words = shlex.split(Template(line).substitute(values), comments=True)[1:]
        at = {
            "import-checkpoint": "encoder",
            "embed": "retrievers.preflmr.encoder",
            "eval": "retrievers.preflmr.encoder",
        }
        words += [f"{at[words[0]]}.{size}" for size in SIZES if words[0] in at]
        words += ["--config", "vit.json"] if "encode" in words else []
        capsys.readouterr()
        assert main(words) == 0, line
        printed.append(capsys.readouterr().out)
    rows = json.loads(Path("runs/preflmr/eval/metrics.json").read_text())["rows"]["preflmr"]
    assert rows.keys() >= {"recall@5", "pseudo_recall@5"}
    assert ".500" in printed[3]
    assert "4 pictures, 4 boxes" in printed[4]
    whole, regions = (read_run(f"runs/preflmr/{name}/preflmr/run.trec") for name in ("eval", "rois"))
    assert whole.keys() == regions.keys()
    assert all(whole[query][0].score != regions[query][0].score for query in whole)
