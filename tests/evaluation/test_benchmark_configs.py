"""The packaged configurations of M-BEIR and MMEB, run in miniature by the commands of docs/reproduce.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_pictures import WORDS, save_pictures, save_tiny_clip
from tiny_vlm import save_tiny_vlm

from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.data.runs import load_run
from gemkr.evaluation.config import EvalConfig

TASKS = {
    "visualnews_task0": (0, "text", "image"),
    "mscoco_task0": (9, "text", "image"),
    "fashion200k_task0": (1, "text", "image"),
    "webqa_task1": (2, "text", "text"),
    "edis_task2": (3, "text", "image,text"),
    "webqa_task2": (2, "text", "image,text"),
    "visualnews_task3": (0, "image", "text"),
    "mscoco_task3": (9, "image", "text"),
    "fashion200k_task3": (1, "image", "text"),
    "nights_task4": (4, "image", "image"),
    "oven_task6": (5, "image,text", "text"),
    "infoseek_task6": (6, "image,text", "text"),
    "fashioniq_task7": (7, "image,text", "image"),
    "cirr_task7": (8, "image,text", "image"),
    "oven_task8": (5, "image,text", "image,text"),
    "infoseek_task8": (6, "image,text", "image,text"),
}
"""Name -> number of the data set, modality of queries and of candidates, in UniIR's order."""


def put(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def item(kind: str, text: str, image: str) -> tuple[str | None, str | None]:
    return (text if "text" in kind else None), (image if "image" in kind else None)


@pytest.fixture
def mbeir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """M-BEIR's files, two queries and four candidates a task, and the variables of the configuration."""
    home = tmp_path / "M-BEIR"
    save_pictures(home / "mbeir_images", ["p0", "p1", "p2", "p3"])
    union, rows = [], ["header"]
    for task, (number, asks, finds) in TASKS.items():
        pool = []
        for n in range(4):
            text, image = item(finds, f"{WORDS[n]} {WORDS[-1 - n]}", f"mbeir_images/p{n}.png")
            pool.append(
                {"did": f"{number}:{len(union) + n}", "txt": text, "img_path": image, "modality": finds}
            )
        union += pool
        suffix = "_test" if "coco" in task else ""
        put(home / f"cand_pool/local/mbeir_{task}{suffix}_cand_pool.jsonl", pool)
        queries, qrels = [], []
        for n in range(2):
            text, image = item(asks, f"{WORDS[n + 1]}", f"mbeir_images/p{n}.png")
            gold = pool[n]["did"]
            queries.append(
                {
                    "qid": gold,
                    "query_txt": text,
                    "query_img_path": image,
                    "query_modality": asks,
                    "pos_cand_list": [gold],
                }
            )
            qrels.append(f"{gold} 0 {gold} 1 {task[-1]}\n")
        put(home / f"query/test/mbeir_{task}_test.jsonl", queries)
        path = home / f"qrels/test/mbeir_{task}_test_qrels.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(qrels))
        rows.append(f"{asks}\t{finds}\tname\t{number}\tFind it.")
    put(home / "cand_pool/global/mbeir_union_test_cand_pool.jsonl", union)
    (home / "instructions").mkdir()
    (home / "instructions/query_instructions.tsv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMKR_MBEIR", str(home))
    monkeypatch.setenv("GEMKR_MODELS", str(tmp_path / "models"))
    return tmp_path


def test_m_beir_from_its_files_to_a_figure_of_each_task(mbeir: Path) -> None:
    home, joined = mbeir / "M-BEIR", []
    for task in TASKS:
        output = mbeir / f"data/mbeir/{task}.jsonl"
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [
            "queries", f"{home}/query/test/mbeir_{task}_test.jsonl", "--qrels", f"{home}/qrels/test/mbeir_{task}_test_qrels.txt",
            "--candidates", f"{home}/cand_pool/global/mbeir_union_test_cand_pool.jsonl",
            "--instructions", f"{home}/instructions/query_instructions.tsv", "--pool", task, "-o", str(output),
        ]  # fmt: skip
        assert main(command) == 0
        joined.append(output.read_text())
    (mbeir / "data/mbeir/test.jsonl").write_text("".join(joined))
    save_tiny_clip(mbeir / "models" / "clip-vit-large-patch14")
    ours = ["retrievers.clip_sf.encoder.checkpoint=null"]
    assert main(["embed", "mbeir", "clip_sf", *ours]) == 0
    assert main(["eval", "mbeir", "evaluate=[clip_sf]", *ours]) == 0
    union = [*ours, "pools=null", "output=runs/mbeir/union"]
    assert main(["eval", "mbeir", "evaluate=[clip_sf]", *union]) == 0
    pools = load_config(find_config("mbeir", "eval"), EvalConfig).pools
    assert list(pools) == list(TASKS)
    found = {
        where: [line.split() for line in Path(f"runs/mbeir/{where}/clip_sf/run.trec").read_text().split("\n")]
        for where in ("local", "union")
    }
    queries = [json.loads(line) for line in (mbeir / "data/mbeir/test.jsonl").read_text().splitlines()]
    for query in queries:
        local, whole = (
            [row[2] for row in found[where] if row and row[0] == query["query_id"]] for where in found
        )
        ids = [json.loads(line)["did"] for line in Path(pools[query["pool"]]).read_text().splitlines()]
        assert len(whole) == 50
        assert len(local) == 4
        assert sorted(local) == sorted(ids)
        seen = [doc_id for doc_id in whole if doc_id in ids]
        assert local[: len(seen)] == seen
    gold = {query["query_id"]: query["positives"][0] for query in queries}
    for task in TASKS:
        qrels, output = home / f"qrels/test/mbeir_{task}_test_qrels.txt", mbeir / "scores.json"
        scores = ["score", "runs/mbeir/union/clip_sf/run.trec", str(qrels), "--metrics", "S@5", "S@10"]
        assert main([*scores, "--json", str(output)]) == 0
        (values,) = json.loads(output.read_text())["queries"].values()
        assert {query["query_id"] for query in queries if query["pool"] == task} == set(values)
        for query_id, value in values.items():
            whole = [row[2] for row in found["union"] if row and row[0] == query_id]
            assert value == {
                "S@5": float(gold[query_id] in whole[:5]),
                "S@10": float(gold[query_id] in whole[:10]),
            }


def test_hits_of_m_beir_are_reranked_as_lamra_does(mbeir: Path) -> None:
    """cos + yes, halved: of texts, of pictures and of both."""
    pools = load_config(find_config("mbeir", "eval"), EvalConfig).pools
    rows, lines = [], []
    for number, task in enumerate(("webqa_task1", "nights_task4", "oven_task8")):
        row = json.loads((mbeir / f"M-BEIR/query/test/mbeir_{task}_test.jsonl").read_text().splitlines()[0])
        rows.append(row)
        ids = [json.loads(line)["did"] for line in Path(pools[task]).read_text().splitlines()]
        lines += [
            f"{row['qid']} Q0 {doc_id} {n} {0.9 - 0.1 * n - 0.01 * number} own\n"
            for n, doc_id in enumerate(ids, 1)
        ]
    put(mbeir / "data/mbeir/test.jsonl", rows)
    (mbeir / "first.trec").write_text("".join(lines))
    answers = ["Yes", "No", "Query", ":", "Candidate"]
    save_tiny_vlm(mbeir / "models" / "LamRA-Rank", "qwen2_vl", [*answers, *WORDS])
    model = "retrievers.lamra_rank.reranker.model"
    ours = [f"{model}.precision=fp32"]
    assert main(["rerank", "mbeir", "first.trec", "-o", "mixed", *ours]) == 0
    weight = "retrievers.lamra_rank.reranker.retrieval_weight=0"
    assert main(["rerank", "mbeir", "first.trec", "-o", "alone", *ours, weight]) == 0
    mixed, alone = (load_run(f"{name}/lamra_rank/run.jsonl") for name in ("mixed", "alone"))
    for query_id, hits in load_run("first.trec").items():
        yes = {hit.doc_id: hit.score for hit in alone[query_id]}
        sums = {hit.doc_id: hit.score + yes[hit.doc_id] for hit in hits}
        assert len(set(yes.values())) == 4
        assert all(0 < value < 1 for value in yes.values())
        assert {hit.doc_id: 2 * hit.score for hit in mixed[query_id]} == pytest.approx(sums, abs=1e-5)


def test_mmeb_from_a_set_to_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, data = tmp_path / "models" / "Qwen2-VL-2B-Instruct", tmp_path / "data"
    save_tiny_vlm(folder, "qwen2_vl")
    save_pictures(tmp_path / "images" / "A-OKVQA", ["p0", "p1"])
    rows = [
        {
            "qry_inst": "<|image_1|>\nAnswer.",
            "qry_text": f"what is {n}",
            "qry_img_path": f"A-OKVQA/p{n}.png",
            "tgt_text": [f"answer {n}", "a cat", "a dog"],
            "tgt_img_path": ["", "", ""],
        }
        for n in range(2)
    ]
    put(tmp_path / "test.jsonl", rows)
    monkeypatch.setenv("GEMKR_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("GEMKR_MMEB_SET", str(data))
    monkeypatch.setenv("GEMKR_MMEB_IMAGES", str(tmp_path / "images"))
    data.mkdir()
    files = [str(data / f"{name}.jsonl") for name in ("queries", "corpus", "pools")]
    command = ["queries", "test.jsonl", "-o", files[0], "--corpus", files[1], "--pools", files[2]]
    assert main(command) == 0
    ours = [
        "retrievers.vlm2vec.encoder.checkpoint=null",
        "retrievers.vlm2vec.encoder.precision=fp32",
        "retrievers.vlm2vec.encoder.square=48",
    ]
    assert main(["embed", "mmeb", "vlm2vec", *ours]) == 0
    assert main(["eval", "mmeb", *ours]) == 0
    lines = (data / "eval/vlm2vec/run.trec").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["test:0"] * 3 + ["test:1"] * 3
    assert {line.split()[2] for line in lines[3:]} == {"answer%201", "a%20cat", "a%20dog"}


def test_a_checkpoint_is_imported_under_the_name_of_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is known comes as far as the checkpoint."""
    for name, message in (("clip", "is called 'clip'; there are blip_ff, clip_sf"), ("clip_sf", "no.pth")):
        assert main(["import-checkpoint", "no.pth", "--config", name, "-o", str(tmp_path / "x")]) == 1
        assert message in capsys.readouterr().err
    assert main(["merge-adapters", "clip", "-o", str(tmp_path / "x")]) == 1
    assert "is called 'clip'; there are blip_ff, clip_sf" in capsys.readouterr().err
