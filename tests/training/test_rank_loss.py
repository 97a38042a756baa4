"""The rank loss: rewards of clues, its value against a plain twin, ranked batches, and runs that learn to prefer."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clues import DOCUMENTS, PLACES, experiment, write_material

from gemkr.cli import main
from gemkr.config.files import to_mapping
from gemkr.data.judged import JudgedClue, read_judged, write_judged
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.judge import make_judge
from gemkr.evaluation.rewards import clue_rewards, judge_clues
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.batch import collate
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.gemkr.rank_loss import rank_losses
from gemkr.models.gemkr.rows import ClueTarget, RankWeight
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.config import RankLossConfig
from gemkr.training.data import PromptDataset, join_judged, read_clue_dataset
from gemkr.training.finetune import finetune
from gemkr.training.loop.config import OptimizerConfig
from gemkr.training.loop.feed import count_targets
from gemkr.training.loop.log import read_rows
from gemkr.types import Clue, Query


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def model(material: Path) -> GeMKR:
    return load_gemkr(ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True))


def prompts_of(material: Path, model: GeMKR) -> PromptDataset:
    clues = read_clue_dataset(material / "queries.jsonl", material / "twice.jsonl", model.input_builder())
    return PromptDataset.of(clues, 2)


def judged_places(material: Path, path: Path, right: float = 1.0) -> Path:
    """Every place for every animal; only its own is worth anything."""
    tokenizer = load_tokenizer(material / "t.model")
    write_judged(
        path,
        (
            JudgedClue(f"q{i}", tuple(tokenizer.encode(place)), place, right * (i == j))
            for i in range(8)
            for j, place in enumerate(PLACES)
        ),
    )
    return path


def test_the_loss_is_minus_the_logarithm_of_the_expected_reward() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.integers(1, 6, size=4)
        owner = np.repeat(np.arange(4), counts)
        scores = rng.normal(scale=20, size=len(owner))
        reward = rng.choice([0.0, 0.0, 0.2, 1.0, np.nan], size=len(owner))
        wanted = np.zeros(4)
        for prompt in range(4):
            own = (owner == prompt) & ~np.isnan(reward)
            if (reward[own] > 0).any():
                weights = np.exp(scores[own] - scores[own].max())
                wanted[prompt] = -math.log((weights * reward[own]).sum() / weights.sum())
        found = rank_losses(torch.tensor(scores), torch.tensor(reward), torch.tensor(owner), 4)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_its_gradient_moves_probability_to_what_was_worth_something() -> None:
    scores = torch.zeros(5, requires_grad=True)
    reward = torch.tensor([1.0, 0.4, 0.0, float("nan"), 0.0])
    rank_losses(scores, reward, torch.tensor([0, 0, 0, 0, 1]), 2).sum().backward()
    wanted = [1 / 3 - 1 / 1.4, 1 / 3 - 0.4 / 1.4, 1 / 3, 0.0, 0.0]
    np.testing.assert_allclose(scores.grad.numpy(), wanted, atol=1e-6)


def test_clues_have_the_log_probability_of_a_row_each(material: Path, model: GeMKR) -> None:
    prompts = prompts_of(material, model)
    shared = model.collate([prompts[i] for i in range(8)])
    found = model.clue_log_probs(shared)
    apart = collate([prompts.clues[i] for row in prompts.rows for i in row])
    losses, counts = model.token_losses(apart)
    torch.testing.assert_close(found, -losses, rtol=1e-5, atol=1e-4)
    assert shared.clues.lengths().tolist() == counts.tolist()


def ranked_batch(material: Path, model: GeMKR, numbers: list[int], *, weight: float, judged: bool):
    prompts, samples = prompts_of(material, model), []
    for number in numbers:
        prompt = prompts[number]
        clues = [dataclasses.replace(clue, reward=0.5 if judged else None) for clue in prompt.clues]
        clues += [ClueTarget((5 + number, 9), False, 1.0)] * judged
        samples.append(dataclasses.replace(prompt, clues=tuple(clues)))
    rank = RankWeight(weight, 1.0)
    return collate(samples, model.tokenizer.pad_id, model.tokenizer.eos_ids[0], rank=rank)


def test_without_judgements_the_loss_is_that_of_writing(material: Path, model: GeMKR) -> None:
    prompts = prompts_of(material, model)
    shared = model.collate([prompts[i] for i in range(4)])
    for weight, judged in ((1.0, False), (0.0, True)):
        ranked = ranked_batch(material, model, [0, 1, 2, 3], weight=weight, judged=judged)
        assert count_targets(ranked) == count_targets(shared)
        assert model(ranked).item() == pytest.approx(model(shared).item(), rel=1e-5)
    assert ranked.target_count() < int(ranked.clues.lengths().sum())


def test_however_a_step_is_split_the_loss_is_the_same(material: Path, model: GeMKR) -> None:
    whole = ranked_batch(material, model, list(range(8)), weight=2.0, judged=True)
    parts = [
        ranked_batch(material, model, numbers, weight=2.0, judged=True)
        for numbers in ([0, 1, 2], [3, 4, 5, 6, 7])
    ]
    total = sum(model(part).item() * count_targets(part) for part in parts)
    assert total / count_targets(whole) == pytest.approx(model(whole).item(), rel=1e-5)


def test_a_judged_clue_that_is_learned_stands_there_once(
    material: Path, model: GeMKR, tmp_path: Path
) -> None:
    prompts = prompts_of(material, model)
    path = judged_places(material, tmp_path / "judged.jsonl")
    ranked = join_judged(prompts, read_judged(path), 30, model.tokenizer, path)
    for number in range(8):
        clues = ranked[number].clues
        assert (
            len({clue.tokens for clue in clues}) == len(clues) == 9
        )  # eight places, and the sentence's opening
        assert [clue.learned for clue in clues] == [True, True] + [False] * 7
        assert [clue.reward for clue in clues] == [1.0, None] + [0.0] * 7
    few = join_judged(prompts, read_judged(path), 3, model.tokenizer, path)
    assert sum(clue.reward is not None for clue in few[7].clues) == 3
    assert (ranked.lengths() > few.lengths()).all()
    twice = dataclasses.replace(prompts, rows=[(row[0], row[0], *row[1:]) for row in prompts.rows])
    again = join_judged(twice, read_judged(path), 30, model.tokenizer, path)
    assert [clue.reward for clue in again[0].clues[:3]] == [1.0, None, None]


def test_rank_loss_alone_teaches_to_prefer(material: Path, tmp_path: Path) -> None:
    """The openings are learned as texts, the places only by what they are worth."""
    rows = (material / "clues.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "openings.jsonl").write_text("".join(row for row in rows if '"form": "long"' in row))
    judged = judged_places(material, tmp_path / "judged.jsonl", right=0.8)
    whole = ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True)
    config = experiment(material, tmp_path / "run", model=whole, batch_size=8, epochs=80, save_every=80)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            clues=str(tmp_path / "openings.jsonl"),
            development=str(tmp_path / "openings.jsonl"),
        ),
        optimizer=OptimizerConfig(lr=1e-2, min_lr=1e-3, warmup_steps=20, beta2=0.95),
        rank_loss=RankLossConfig(clues=str(judged), weight=1.0),
    )
    finetune(config)
    model = load_model(dataclasses.replace(whole, checkpoint=str(tmp_path / "run/final")))
    tokenizer = model.tokenizer
    places = tuple(ClueTarget(tuple(tokenizer.encode(place))) for place in PLACES)
    queries = list(read_queries(config.data.queries))
    build = model.input_builder()
    batch = model.collate([dataclasses.replace(build(query), clues=places) for query in queries])
    with torch.no_grad():
        chosen = model.clue_log_probs(batch).view(8, 8).argmax(dim=1)
    assert chosen.tolist() == list(range(8))
    changed = dataclasses.replace(config, rank_loss=RankLossConfig(clues=str(judged), weight=0.5))
    with pytest.raises(Exception, match=r"rank_loss.weight was 1.0, is 0.5"):
        finetune(changed, resume="auto")


def test_a_resumed_run_with_a_rank_loss_is_the_same_run(material: Path, tmp_path: Path) -> None:
    judged = judged_places(material, tmp_path / "judged.jsonl")
    rank = RankLossConfig(clues=str(judged), weight=0.5, sharpness=0.7, per_prompt=5)
    config = experiment(material, tmp_path / "run", rank_loss=rank, batch_size=2, save_every=3)
    data = dataclasses.replace(config.data, clues=str(material / "twice.jsonl"), clues_per_prompt=2)
    config = dataclasses.replace(config, data=data)
    finetune(config)
    whole = [row["loss"] for row in read_rows(config.output) if "loss" in row]
    assert len(whole) == 12
    finetune(dataclasses.replace(config, workers=2), resume=tmp_path / "run" / "step-000009")
    assert [row["loss"] for row in read_rows(config.output) if "loss" in row] == whole
    bare = dataclasses.replace(config, rank_loss=None, output=str(tmp_path / "bare"))
    finetune(bare)
    assert all(row["loss"] < loss for row, loss in zip(read_rows(bare.output)[:1], whole))


DOCS = [[3, 4, 5], [3, 4, 6, 3, 4], [7, 3, 8], [9, 9], [7, 8, 5]]


class Prefers:
    """A second scorer that ranks documents by their number, the last first."""

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        return docs.astype(np.float32)


def test_a_clue_is_worth_the_share_of_relevant_documents_shown_for_it() -> None:
    index = FMIndex.build(DOCS, [f"d{i}" for i in range(5)], vocab_size=10)
    clues = [Clue(t, "", -1.0, -1.0, index.search(t)) for t in ((3,), (3, 4), (7,), (9, 9))]
    texts = {"d0": "tea", "d1": "tea", "d2": "coffee", "d3": "milk", "d4": "tea"}
    query = Query("q", "?", answers=("tea",))
    judge = make_judge((), queries=[query], contents=texts.__getitem__)
    lookup = ClueDocuments(index, ScoringConfig(), Prefers())
    assert clue_rewards(query, clues, lookup, judge, 2).tolist() == [0.5, 1.0, 0.5, 0.0]
    assert clue_rewards(query, clues, lookup, judge, 1).tolist() == [0.0, 1.0, 1.0, 0.0]
    assert clue_rewards(query, clues, lookup, judge, 9).tolist() == [pytest.approx(2 / 3), 1.0, 0.5, 0.0]
    assert clue_rewards(query, [], lookup, judge, 2).tolist() == []
    gold = make_judge((), queries=[Query("q", "?", positives=("d3", "d2"))])
    assert clue_rewards(query, clues, lookup, gold, 2).tolist() == [0.5, 0.0, 0.5, 1.0]
    assert list(judge_clues([Query("r", "?"), query], {"r": clues, "q": []}, lookup, judge)) == []


def test_a_clue_is_judged_by_itself() -> None:
    """Without a second scorer its own occurrences decide, and never another clue's."""
    index = FMIndex.build([[3, 3, 4], [4, 4, 3], [3, 3, 3]], ["d0", "d1", "d2"], vocab_size=10)
    texts = {"d0": "tea", "d1": "tea", "d2": "milk"}
    query = Query("q", "?", answers=("tea",))
    judge = make_judge((), queries=[query], contents=texts.__getitem__)
    three, four = (Clue(t, "", -1.0, -1.0, index.search(t)) for t in ((3,), (4,)))
    for settings in (ScoringConfig(), ScoringConfig(documents_per_clue=1)):
        lookup = ClueDocuments(index, settings)
        assert clue_rewards(query, [three], lookup, judge, 1).tolist() == [0.0]
        assert clue_rewards(query, [three, four], lookup, judge, 1).tolist() == [0.0, 1.0]
        assert clue_rewards(query, [three, four], lookup, judge, 3).tolist() == [pytest.approx(2 / 3), 1.0]


def test_from_a_run_to_a_tuned_model(material: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """`gemkr eval`, `gemkr judge`, `gemkr train`, one after the other."""
    tokenizer = load_tokenizer(material / "t.model")
    (tmp_path / "corpus.csv").write_text(
        "kid,text\n" + "".join(f'd{i},"{t}"\n' for i, t in enumerate(DOCUMENTS))
    )
    index = FMIndex.build(
        [tokenizer.encode(text) for text in DOCUMENTS],
        [f"d{i}" for i in range(8)],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer,
    )
    index.save(tmp_path / "corpus.fmi")
    model = ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True)
    generative = {"kind": "generative", "index": str(tmp_path / "corpus.fmi"), "model": to_mapping(model)}
    evaluation = {
        "queries": str(material / "queries.jsonl"),
        "corpus": str(tmp_path / "corpus.csv"),
        "output": str(tmp_path / "eval"),
        "metrics": ["P@5", "S@5"],
        "retrievers": {"gemkr": generative},
    }
    (tmp_path / "eval.yaml").write_text(json.dumps(evaluation))
    judge = ["judge", str(tmp_path / "eval.yaml"), "-o", str(tmp_path / "judged.jsonl")]
    assert main(judge) == 1
    assert "run.jsonl is not there; run the generative retriever 'gemkr' first" in capsys.readouterr().err
    assert main(["eval", str(tmp_path / "eval.yaml")]) == 0
    assert main([*judge, "--documents", "1"]) == 0
    assert "a document is relevant when it holds an answer (word match)" in capsys.readouterr().out
    judged = list(read_judged(tmp_path / "judged.jsonl"))
    assert {clue.query_id for clue in judged} == {f"q{i}" for i in range(8)}
    assert {clue.reward for clue in judged} == {0.0, 1.0}
    kept = (tmp_path / "eval" / "gemkr" / "run.jsonl").read_bytes()
    refused = [
        (["-o", str(tmp_path / "eval" / "gemkr" / "run.jsonl")], "is the same file as an input"),
        (
            [f"retrievers.gemkr.index={other_index(tmp_path, tokenizer)}"],
            "was made under another index: the clue",
        ),
        (
            [f"queries={more_queries(tmp_path, material)}"],
            "has no record of 1 of the 9 queries, such as 'q8'",
        ),
    ]
    for words, message in refused:
        assert main([*judge, *words]) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "eval" / "gemkr" / "run.jsonl").read_bytes() == kept
    assert list(read_judged(tmp_path / "judged.jsonl")) == judged
    training = experiment(material, tmp_path / "train", epochs=1)
    training = dataclasses.replace(
        training, data=dataclasses.replace(training.data, clues=str(material / "short.jsonl"))
    )
    (tmp_path / "train.yaml").write_text(json.dumps(to_mapping(training)))
    assert main(["train", str(tmp_path / "train.yaml"), f"rank_loss.clues={tmp_path / 'judged.jsonl'}"]) == 0
    assert (tmp_path / "train" / "final").is_dir()


def other_index(folder: Path, tokenizer) -> Path:
    """An index of other documents under the same names."""
    index = FMIndex.build(
        [tokenizer.encode(text.upper()) for text in reversed(DOCUMENTS)],
        [f"d{i}" for i in range(8)],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer,
    )
    index.save(folder / "other.fmi")
    return folder / "other.fmi"


def more_queries(folder: Path, material: Path) -> Path:
    """The queries, one that the run has not seen, and one without an answer, which does not matter."""
    rows = (material / "queries.jsonl").read_text()
    rows += '{"query_id": "q8", "question": "?", "answers": ["wood"]}\n{"query_id": "q9", "question": "?"}\n'
    (folder / "more.jsonl").write_text(rows)
    return folder / "more.jsonl"


def test_judgements_that_do_not_fit_are_refused(material: Path, model: GeMKR, tmp_path: Path) -> None:
    prompts, tokenizer = prompts_of(material, model), model.tokenizer
    size, text = tokenizer.vocab_size, tokenizer.decode((300,))

    def join(*clues: JudgedClue) -> None:
        join_judged(prompts, clues, 1, tokenizer, "judged.jsonl")

    with pytest.raises(
        DataError, match=r"judged.jsonl: the query 'q9' of a judged clue is not among the queries"
    ):
        join(JudgedClue("q9", (5,), "a", 1.0))
    with pytest.raises(DataError, match=f"holds the token {size}, the model's tokenizer has {size}"):
        join(JudgedClue("q1", (size,), "a", 1.0))
    with pytest.raises(DataError, match="reads 'something else', the model's tokenizer makes"):
        join(JudgedClue("q1", (300,), "something else", 1.0))
    with pytest.raises(DataError, match="none has a judged clue worth something among its first 1;"):
        join(JudgedClue("q1", (300,), text, 0.0), JudgedClue("q1", (301,), "", 1.0))
    few = dataclasses.replace(prompts.clues, queries={"q2": prompts.clues.queries["q2"]})
    with pytest.raises(DataError, match="there is nothing to prefer"):
        join_judged(
            dataclasses.replace(prompts, clues=few), [JudgedClue("q1", (300,), text, 1.0)], 1, tokenizer, "j"
        )
    told = read_clue_dataset(material / "queries.jsonl", material / "clues.jsonl", model.input_builder())
    with pytest.raises(ConfigError, match=r"knows one form of clue and data.clues holds two"):
        join_judged(PromptDataset.of(told, 2), [], 30, tokenizer, "judged.jsonl")
    path = tmp_path / "judged.jsonl"
    for tokens, reward in (
        ("[4]", "1.5"),
        ("[]", "1"),
        ("[4.7]", "1"),
        ("4", "1"),
        ('"45"', "1"),
        ("[4]", '"1"'),
    ):
        path.write_text(f'{{"query_id": "q1", "tokens": {tokens}, "text": "a", "reward": {reward}}}\n')
        with pytest.raises(
            DataError, match=r"judged.jsonl:1: the judged clue has the tokens .* it needs whole"
        ):
            list(read_judged(path))
    path.write_text('{"query_id": "q1", "tokens": [4], "text": "a"}\n')
    with pytest.raises(DataError, match=r"judged.jsonl:1: the judged clue lacks the key 'reward'"):
        list(read_judged(path))
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no judged clue; make some with `gemkr judge`"):
        list(read_judged(path))
