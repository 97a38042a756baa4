"""`gemkr eval|retrieve|score` and the entries for readers of the paper, on a small corpus with BM25."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.cli.legacy import main as legacy
from gemkr.cli.legacy import translate
from gemkr.config.files import load_config
from gemkr.config.section import Section
from gemkr.data.trec import read_run
from gemkr.errors import ConfigError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.harness import retrieve_into
from gemkr.evaluation.runs import settings_of
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.hf.config import PromptConfig, TextEncoderConfig
from gemkr.retrievers.fusion import FusionRetriever
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.retrievers.lexical import BM25Retriever
from gemkr.testing import toy_corpus
from gemkr.types import Hit, Query, Ranking
from gemkr.vision.config import TowerConfig

QUESTIONS = [
    {"query_id": "1", "question": "What is the capital on the Seine?", "answers": ["Paris"]},
    {
        "query_id": "2",
        "question": "Which animal sleeps?",
        "caption": "a brown owl in the day",
        "answers": ["owl"],
    },
    {"query_id": "3", "question": "Who eats fish?", "answers": ["shark"]},
    {"query_id": "4", "question": "xyzzy", "answers": ["tea"]},
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    rows = "".join(f'{document.doc_id},"{document.text}"\n' for document in toy_corpus())
    (tmp_path / "corpus.csv").write_text("kid,text\n" + rows)
    path = tmp_path / "eval.yaml"
    path.write_text(
        f"queries: {tmp_path}/queries.jsonl\ncorpus: {tmp_path}/corpus.csv\noutput: {tmp_path}/out\n"
        "metrics: [P@5, S@1, S@5, D@10]\ncards: 3\nevaluate: [bm25_caption, bm25]\n"
        "retrievers:\n  bm25_caption: {kind: bm25, caption: true}\n  bm25: {kind: bm25}\n"
        "  bm25_detections: {kind: bm25, caption: true, detections: true}\n"
    )
    return path


def test_eval_writes_everything_and_prints_a_table(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", str(config)]) == 0
    out = config.parent / "out"
    printed = capsys.readouterr().out
    assert "bm25_caption" in printed
    assert "word match" in printed
    assert "bm25_caption - bm25" in printed
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rows"]["bm25_caption"] == {
        "P@5": 0.1,
        "S@1": 0.5,
        "S@5": 0.5,
        "D@10": metrics["rows"]["bm25_caption"]["D@10"],
        "queries": 4,
    }
    assert metrics["tests"]["bm25"]["S@1"]["difference"] >= 0
    rows = [json.loads(line) for line in (out / "per_query.jsonl").read_text().splitlines()]
    assert [row["query_id"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["rows"]["bm25"]["S@1"] == 1.0
    assert set(read_run(out / "bm25_caption" / "run.trec")) == {"1", "2", "3"}
    assert (out / "report.html").stat().st_size > 5000
    assert (out / "bm25" / "run.trec").is_file()


@pytest.mark.parametrize(
    "halt",
    ["evaluation.evaluate.Evaluation.per_query_jsonl", "evaluation.report.eval_report.write_eval_report"],
)
def test_metrics_are_there_only_when_all_else_is(
    config: Path, monkeypatch: pytest.MonkeyPatch, halt: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"gemkr.{halt}", stop)
    main(["eval", str(config)])
    assert not (config.parent / "out" / "metrics.json").exists()
    monkeypatch.undo()
    assert main(["eval", str(config)]) == 0
    assert (config.parent / "out" / "metrics.json").is_file()
    monkeypatch.setattr("gemkr.evaluation.evaluate.run_retriever", stop)
    main(["eval", str(config), "--restart"])
    assert not [n for n in ("metrics.json", "report.html") if (config.parent / "out" / n).exists()]


def test_a_second_eval_resumes_and_other_settings_are_refused(
    config: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["eval", str(config)]) == 0
    before = (config.parent / "out" / "bm25_caption" / "run.jsonl").read_bytes()
    assert main(["eval", str(config), "metrics=[MRR@10]"]) == 0
    assert "4 of them from an earlier run" in capsys.readouterr().err
    assert (config.parent / "out" / "bm25_caption" / "run.jsonl").read_bytes() == before
    assert main(["eval", str(config), "k=3"]) == 1
    error = capsys.readouterr().err
    assert "with k = 10, this one has 3" in error
    assert "--restart" in error
    assert main(["eval", str(config), "k=3", "--restart"]) == 0
    assert all(
        len(hits) <= 3 for hits in read_run(config.parent / "out" / "bm25_caption" / "run.trec").values()
    )


def test_changed_material_is_noticed(config: Path, capsys: pytest.CaptureFixture) -> None:
    folder = config.parent
    assert main(["retrieve", str(config)]) == 0
    for name in ("corpus.csv", "queries.jsonl"):
        kept, stat = (folder / name).read_bytes(), (folder / name).stat()
        (folder / name).write_bytes(kept + b"\n")
        capsys.readouterr()
        assert main(["retrieve", str(config)]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        what = name.split(".")[0]
        assert said == (
            f"gemkr: {folder}/out/bm25_caption holds a run whose {what} {folder}/{name} has changed since the run was begun; give "
            "another output, or --restart to replace it"
        )
        (folder / name).write_bytes(kept)
        os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert main(["retrieve", str(config)]) == 0


def test_files_that_came_or_went_are_told(tmp_path: Path) -> None:
    queries = [Query("0", "q")]

    def run(stamp: str | None, paths: dict[str, str] | None = None) -> None:
        settings = {"files": {"x.index": stamp}}
        retrieve_into(
            tmp_path, lambda: Halting(False), queries, 10, settings=settings, paths=paths, progress=False
        )

    run("113 bytes, 1795")
    with pytest.raises(ConfigError, match=r"a run whose x\.index a/b\.fmi is no longer there; give another"):
        run(None, {"x.index": "a/b.fmi"})
    with pytest.raises(
        ConfigError, match=r"a run whose file of x\.index has changed since the run was begun"
    ):
        run("114 bytes, 1795")
    settings = json.loads((tmp_path / "settings.json").read_text())
    settings["files"]["x.index"] = None
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"a run that was begun before its file of x\.index was there"):
        run("113 bytes, 1795")


def test_every_file_that_a_run_reads_is_looked_at(tmp_path: Path) -> None:
    paths = [tmp_path / f"file{number}" for number in range(20)]
    for path in paths:
        path.write_text("as it was")
    files = map(str, paths)

    def model() -> ModelConfig:
        tower = TowerConfig(config=next(files), weights=next(files))
        prompt = PromptConfig(template=next(files))
        encoder = TextEncoderConfig(next(files), weights=next(files))
        return ModelConfig(
            next(files), next(files), tower, text_encoder=encoder, prompt=prompt, checkpoint=next(files)
        )

    generative = GenerativeConfig(index=next(files), model=model(), ensemble=(model(),))
    sections = {
        "gemkr": Section("", "generative", GenerativeRetriever, generative),
        "bm25": Section("", "bm25", BM25Retriever, BM25Retriever.Config()),
        "both": Section("", "fusion", FusionRetriever, FusionRetriever.Config(of=("gemkr", "bm25"))),
    }
    config = EvalConfig(
        queries=next(files), corpus=next(files), output="out", images=next(files), retrievers=sections
    )
    assert next(files, None) is None

    def settings() -> list[dict]:
        return [settings_of(config, config.sources(), name) for name in ("gemkr", "both", "bm25")]

    before = settings()
    for path in paths:
        path.write_text("something else")
        after = settings()
        assert [new != old for new, old in zip(after, before)][:2] == [True, True], path
        assert (after[2] != before[2]) == (str(path) in (config.queries, config.corpus))
        before = after


def test_an_output_that_cannot_be_written_is_told_before_any_work(
    config: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config.parent / "file").write_text("in the way")
    monkeypatch.setattr("gemkr.data.queries.read_queries", lambda path: pytest.fail("work has begun"))
    for command in ("eval", "retrieve"):
        assert main([command, str(config), f"output={config.parent}/file/out"]) == 1
        error = capsys.readouterr().err
        assert "the output folder" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retriever=bm25", "'retriever' is a key of the first edition; name the sections to evaluate"),
        ("baselines=[bm25]", "'baselines' is a key of the first edition; name the sections to evaluate"),
        (
            "scoring.method=seal",
            "'scoring' is a key of the first edition; these settings stand in the section",
        ),
        ("evaluate=[nothing]", "evaluate names 'nothing', which has no section in retrievers"),
        ("metrics=[R@5]", "need all relevant documents"),
        ("metrics=[X@5]", "the metric 'X@5' is unknown"),
        ("match=fuzzy", "the match 'fuzzy' is unknown"),
        ("retrievers.bm25.kind=generative", "the required key 'index' is missing"),
        ("queries=null", "queries is missing"),
        ("output=null", "output is missing"),
        ("quereis=x", "the nearest known key is 'queries'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    config: Path, override: str, message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["eval", str(config), override]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("gemkr: ")
    assert error.count("\n") == 1


def test_score_by_qrels_by_answers_and_compared(config: Path, capsys: pytest.CaptureFixture) -> None:
    main(["eval", str(config)])
    folder = config.parent
    ours, theirs = folder / "out" / "bm25_caption" / "run.trec", folder / "out" / "bm25" / "run.jsonl"
    (folder / "qrels.txt").write_text("1 0 d0 1\n3 0 d9 1\n")
    capsys.readouterr()
    assert main(["score", str(ours), str(folder / "qrels.txt"), "--metrics", "S@1", "R@5"]) == 0
    assert "1.000 ±.000" in capsys.readouterr().out
    arguments = [
        "score",
        str(ours),
        "--queries",
        f"{folder}/queries.jsonl",
        "--corpus",
        f"{folder}/corpus.csv",
    ]
    arguments += ["--match", "exact", "--compare", str(theirs), "--json", f"{folder}/score.json"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "run.trec - run.jsonl" in printed
    assert "exact match" in printed
    assert "lacks 1 of 4" in printed
    result = json.loads((folder / "score.json").read_text())
    assert result["rows"]["run.trec"]["S@1"]["mean"] == 0.5
    assert set(result["queries"]["run.trec"]) == {"1", "2", "3", "4"}


def test_score_does_not_compare_a_run_with_itself(config: Path, capsys: pytest.CaptureFixture) -> None:
    folder = config.parent
    (folder / "run.trec").write_text("1 Q0 d0 1 0.5 t\n")
    (folder / "qrels.txt").write_text("1 0 d0 1\n")
    (folder / "other").mkdir()
    for same in ("run.trec", "other/../run.trec"):
        assert (
            main(["score", f"{folder}/run.trec", f"{folder}/qrels.txt", "--compare", f"{folder}/{same}"]) == 1
        )
        error = capsys.readouterr().err
        assert "is the run itself" in error
        assert error.count("\n") == 1


def test_score_reads_the_authors_lists(config: Path, capsys: pytest.CaptureFixture) -> None:
    folder = config.parent
    (folder / "results.json").write_text(json.dumps([["d0", "d0"], ["d10"], [], ["d5"]]))
    arguments = [
        "score",
        f"{folder}/results.json",
        "--corpus",
        f"{folder}/corpus.csv",
        "--metrics",
        "S@1,D@5",
    ]
    assert main(arguments) == 1
    assert "give --queries" in capsys.readouterr().err
    assert main([*arguments, "--queries", f"{folder}/queries.jsonl"]) == 0
    assert ".750" in capsys.readouterr().out


def test_score_names_a_document_that_the_corpus_lacks(config: Path, capsys: pytest.CaptureFixture) -> None:
    folder = config.parent
    (folder / "run.trec").write_text("1 Q0 elsewhere 1 0.5 t\n")
    command = [
        "score",
        f"{folder}/run.trec",
        "--queries",
        f"{folder}/queries.jsonl",
        "--corpus",
        f"{folder}/corpus.csv",
    ]
    assert main(command) == 1
    assert "'elsewhere'" in capsys.readouterr().err


def test_arguments_of_the_paper_are_understood() -> None:
    assert translate(["--options", "k=5", "seed=1", "--cfg-path", "e.yaml", "--restart"]) == [
        "e.yaml",
        "k=5",
        "seed=1",
        "--restart",
    ]
    assert translate(["--cfg-path=e.yaml", "--options=k=5"]) == ["e.yaml", "k=5"]
    assert translate(["e.yaml", "k=5"]) == ["e.yaml", "k=5"]


def test_eval_py_is_the_same_command(config: Path) -> None:
    assert legacy("eval", argv=["--cfg-path", str(config), "--options", "k=5"]) == 0
    assert (config.parent / "out" / "metrics.json").is_file()


def test_bm25_uses_the_fields_it_is_told_to(config: Path) -> None:
    sources = load_config(config, EvalConfig).sources()
    query = Query("q", "which one", caption="owl", detections=("camel",))
    found = {
        name: {hit.doc_id for hit in next(sources.retriever(name).retrieve([query], 10)).hits}
        for name in ("bm25", "bm25_caption", "bm25_detections")
    }
    assert found == {"bm25": set(), "bm25_caption": {"d10"}, "bm25_detections": {"d10", "d11"}}


class Halting:
    """A retriever that fails at the third query, once."""

    def __init__(self, halt: bool) -> None:
        self.halt = halt
        self.seen: list[str] = []

    def retrieve(self, queries, k):
        for query in queries:
            if self.halt and len(self.seen) == 2:
                raise KeyboardInterrupt
            self.seen.append(query.query_id)
            yield Ranking(query.query_id, (Hit("d", 1.0),))


def test_an_interrupted_run_keeps_what_was_done_and_goes_on(tmp_path: Path) -> None:
    queries = [Query(str(i), "q") for i in range(4)]
    first, second = Halting(True), Halting(False)
    with pytest.raises(KeyboardInterrupt):
        retrieve_into(tmp_path, lambda: first, queries, 10, settings={"a": 1}, progress=False)
    result = retrieve_into(tmp_path, lambda: second, queries, 10, settings={"a": 1}, progress=False)
    assert (first.seen, second.seen) == (["0", "1"], ["2", "3"])
    assert (list(result.rankings), result.resumed) == (["0", "1", "2", "3"], 2)
    finished = retrieve_into(
        tmp_path, lambda: pytest.fail("built for nothing"), queries, 10, settings={"a": 1}
    )
    assert finished.resumed == finished.answered == 4
    assert finished.seconds == pytest.approx(result.seconds, abs=0.01)
    with pytest.raises(ConfigError, match="b = None, this one has 2"):
        retrieve_into(tmp_path, lambda: second, queries, 10, settings={"a": 1, "b": 2})
    assert os.listdir(tmp_path).count("settings.json") == 1


def test_a_run_of_unknown_settings_is_not_continued(tmp_path: Path) -> None:
    queries = [Query(str(i), "q") for i in range(4)]
    retrieve_into(tmp_path, lambda: Halting(False), queries[:2], 10, settings={"a": 1}, progress=False)
    (tmp_path / "settings.json").unlink()
    before = (tmp_path / "run.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"holds a run without settings\.json.*--restart"):
            retrieve_into(tmp_path, lambda: Halting(False), queries, 10, settings={"a": 1})
    assert (tmp_path / "run.jsonl").read_bytes() == before
    fresh = retrieve_into(
        tmp_path, lambda: Halting(False), queries, 10, settings={"a": 1}, restart=True, progress=False
    )
    assert (fresh.resumed, len(fresh.rankings)) == (0, 4)
