"""Fine-tuning a tiny text-only GeMKR on clues cut from a tiny corpus: what is learned, resumption, loading."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_clues import DOCUMENTS, experiment, write_material

from gemkr.cli import main
from gemkr.config.files import to_mapping
from gemkr.data.clues import read_clues
from gemkr.data.queries import read_queries
from gemkr.errors import CheckpointError, ConfigError, DataError, ModelError
from gemkr.models.gemkr.batch import collate, hide_words
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.models.hf.config import LoraConfig
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.learned import warn_of_long_clues
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.config import LlamaConfig
from gemkr.training.data import PromptDataset, read_clue_dataset
from gemkr.training.finetune import finetune
from gemkr.training.llama import build_llama, save_llama
from gemkr.training.loop.config import OptimizerConfig
from gemkr.training.loop.feed import count_targets
from gemkr.training.loop.log import read_rows
from gemkr.training.loop.resume import lock_output


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def losses(folder: str) -> list[float]:
    return [row["loss"] for row in read_rows(folder) if "loss" in row]


def test_only_clue_tokens_and_eos_are_learned(material: Path, tmp_path: Path) -> None:
    config = experiment(material, tmp_path)
    model = load_gemkr(config.model)
    build = model.input_builder()
    dataset = read_clue_dataset(config.data.queries, config.data.clues, build)
    eos = model.tokenizer.eos_ids[0]
    for number, clue in enumerate(dataset.clues):
        sample = dataset[number].sample
        learned = sample.labels != IGNORED_LABEL
        assert sample.tokens[learned].tolist() == [*clue.tokens, eos]
        assert model.tokenizer.decode(sample.tokens[~learned]).endswith("### Response:")
        assert f"### Form: {clue.form}" in model.tokenizer.decode(sample.tokens[~learned])
    batch = collate([dataset[0], dataset[1]])
    assert count_targets(batch) == sum(len(dataset.clues[i].tokens) + 1 for i in (0, 1))
    loss = model(batch)
    changed = dataclasses.replace(batch, labels=batch.labels.clone())
    changed.labels[batch.labels != IGNORED_LABEL] = 5
    assert not torch.allclose(model(changed), loss)


def test_the_form_is_told_only_where_there_are_two(material: Path) -> None:
    build = load_gemkr(ModelConfig(llm=str(material / "llm"))).input_builder()
    one = read_clue_dataset(material / "queries.jsonl", material / "short.jsonl", build)
    two = read_clue_dataset(material / "queries.jsonl", material / "clues.jsonl", build)
    told = read_clue_dataset(material / "queries.jsonl", material / "short.jsonl", build, show_form=True)
    assert (one.show_form, two.show_form) == (False, True)
    assert len(one[0].sample.tokens) < len(told[0].sample.tokens)


def test_clues_behind_one_prompt_have_the_loss_of_a_row_each(material: Path) -> None:
    model = load_gemkr(ModelConfig(llm=str(material / "llm"), lora=LoraConfig(r=4, dropout=0.0)))
    with torch.no_grad():
        for name, parameter in model.trainable_parameters().items():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    dataset = read_clue_dataset(material / "queries.jsonl", material / "twice.jsonl", model.input_builder())
    prompts = PromptDataset.of(dataset, 2)
    assert len(dataset) == 16
    assert len(prompts) == len(set(prompts.groups().tolist())) == 8
    assert len(PromptDataset.of(dataset, 1)) == 16
    shared = model.collate([prompts[i] for i in range(8)])
    apart = collate([dataset[i] for i in range(16)])
    assert count_targets(shared) == count_targets(apart)
    grads = []
    for batch in (shared, apart):
        model.zero_grad()
        loss = model(batch)
        loss.backward()
        grads.append((loss.item(), {n: p.grad.clone() for n, p in model.trainable_parameters().items()}))
    assert grads[0][0] == pytest.approx(grads[1][0], rel=1e-5)
    for name, grad in grads[0][1].items():
        assert torch.allclose(grad, grads[1][1][name], atol=1e-6), name


def test_dropout_is_for_training_a_whole_llm(material: Path) -> None:
    whole = ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True, dropout=0.5)
    model = load_gemkr(whole)
    dataset = read_clue_dataset(material / "queries.jsonl", material / "short.jsonl", model.input_builder())
    batch = collate([dataset[0], dataset[1]])
    assert model(batch).item() == model(batch).item()
    plain = load_gemkr(dataclasses.replace(whole, dropout=0.0))
    assert model(batch).item() == plain(batch).item()
    model.train()
    assert len({model(batch).item() for _ in range(4)}) == 4
    with pytest.raises(ModelError, match=r"dropout 0.5 is for an LLM that is trained whole"):
        load_gemkr(ModelConfig(llm=str(material / "llm"), dropout=0.5))


def test_words_of_prompts_are_hidden_in_training_only(material: Path) -> None:
    config = ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True, prompt_dropout=0.4)
    model = load_gemkr(config)
    dataset = read_clue_dataset(material / "queries.jsonl", material / "twice.jsonl", model.input_builder())
    batch = collate([dataset[i] for i in range(8)])
    assert model(batch).item() == model(batch).item()
    model.train()
    torch.manual_seed(0)
    shown = torch.stack([hide_words(batch, 0.4).mask for _ in range(200)]).float().mean(dim=0)
    prompt = (batch.labels == -100) & (batch.mask == 1)
    last = prompt & (batch.labels.roll(-1, dims=1) != -100)
    assert torch.equal(shown[last | ~prompt], batch.mask[last | ~prompt].float())
    assert shown[prompt & ~last].mean().item() == pytest.approx(0.6, abs=0.03)
    prompts = PromptDataset.of(dataset, 2)
    shared = model.collate([prompts[0]])
    assert len({model(shared).item() for _ in range(4)}) == 4


@pytest.mark.parametrize(("per_prompt", "fused"), [(1, False), (2, False), (2, True)])
def test_a_resumed_run_is_the_same_run(material: Path, tmp_path: Path, per_prompt: int, fused: bool) -> None:
    lora = LoraConfig(r=4, dropout=0.2)
    model = ModelConfig(llm=str(material / "llm"), lora=lora, fused=fused)
    config = experiment(material, tmp_path / "run", model=model)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, clues_per_prompt=per_prompt))
    outcome = finetune(config)
    assert outcome.stopped_by is None
    whole = losses(config.output)
    weights = read_checkpoint(tmp_path / "run/final").weights
    assert all("lora" in name for name in weights)
    with pytest.raises(CheckpointError, match="already holds a training run"):
        finetune(config)
    finetune(config, resume=tmp_path / "run" / "step-000010")
    assert losses(config.output) == whole
    again = read_checkpoint(tmp_path / "run/final").weights
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_the_clues_are_learned_and_eval_loads_them(material: Path, tmp_path: Path) -> None:
    model = ModelConfig(llm=str(material / "llm"), lora=None, train_llm=True)
    config = experiment(material, tmp_path / "run", model=model, batch_size=8, epochs=200, save_every=100)
    config = dataclasses.replace(
        config, optimizer=OptimizerConfig(lr=1e-2, min_lr=1e-3, warmup_steps=20, beta2=0.95)
    )
    data = dataclasses.replace(
        config.data, clues=str(material / "short.jsonl"), development=config.data.clues
    )
    finetune(dataclasses.replace(config, data=data))
    assert losses(config.output)[-1] < 0.05
    assert any("development_loss" in row for row in read_rows(config.output))
    loaded = load_model(dataclasses.replace(model, checkpoint=str(tmp_path / "run/final")))
    build, right = loaded.input_builder(), 0
    for query in read_queries(data.queries):
        logits, _ = loaded.prefill([build(query)])
        right += int(logits[0].argmax()) == loaded.tokenizer.encode(query.answers[0])[0]
    assert right == 8


def test_a_checkpoint_of_another_model_is_refused(material: Path, tmp_path: Path) -> None:
    config = experiment(material, tmp_path / "run", epochs=1)
    finetune(config)
    wider = dataclasses.replace(config.model, lora=LoraConfig(r=8, dropout=0.1))
    with pytest.raises(CheckpointError, match=r"model.lora.r was 4, is 8"):
        finetune(dataclasses.replace(config, model=wider), resume="auto")
    warm = dataclasses.replace(wider, checkpoint=str(tmp_path / "run/final"))
    with pytest.raises(CheckpointError, match="has shape"):
        finetune(dataclasses.replace(config, model=warm, output=str(tmp_path / "warm")))
    train_vocabulary(DOCUMENTS * 30, tmp_path / "o.model", pieces=339)
    tokenizer = load_tokenizer(tmp_path / "o.model")
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, tmp_path / "llm")
    other = dataclasses.replace(config.model, llm=str(tmp_path / "llm"))
    with pytest.raises(CheckpointError, match="tokenizer was"):
        finetune(dataclasses.replace(config, model=other), resume="auto")


def test_a_warm_start_begins_where_the_other_ended(material: Path, tmp_path: Path) -> None:
    config = experiment(material, tmp_path / "first", epochs=8)
    finetune(config)
    warm = dataclasses.replace(config.model, checkpoint=str(tmp_path / "first/final"))
    finetune(dataclasses.replace(config, model=warm, output=str(tmp_path / "second"), max_steps=2))
    start, end, again = (
        losses(config.output)[0],
        losses(config.output)[-1],
        losses(str(tmp_path / "second"))[0],
    )
    assert abs(again - end) < abs(again - start) / 3


def test_data_that_do_not_belong_together_are_refused(material: Path, tmp_path: Path) -> None:
    (tmp_path / "few.jsonl").write_text('{"query_id": "q0", "question": "Where?"}\n')
    config = experiment(material, tmp_path / "run")
    data = dataclasses.replace(config.data, queries=str(tmp_path / "few.jsonl"))
    with pytest.raises(DataError, match="the query 'q1' of a clue is not among the queries"):
        finetune(dataclasses.replace(config, data=data))
    clues = [json.loads(line) for line in (material / "clues.jsonl").read_text().splitlines()]
    train_vocabulary(DOCUMENTS * 30, tmp_path / "o.model", pieces=300)
    tokenizer = load_tokenizer(tmp_path / "o.model")
    foreign = [clue | {"tokens": tokenizer.encode(clue["text"])} for clue in clues]
    for clue in foreign:
        clue["stop"] = clue["start"] + len(clue["tokens"])
    (tmp_path / "foreign.jsonl").write_text("".join(json.dumps(clue) + "\n" for clue in foreign))
    data = dataclasses.replace(config.data, clues=str(tmp_path / "foreign.jsonl"))
    with pytest.raises(DataError, match=r"reads \d+ of 16 clues as other texts \(of .* it makes .*\); mine"):
        finetune(dataclasses.replace(config, data=data))
    (tmp_path / "foreign.jsonl").write_text(json.dumps(clues[0] | {"tokens": [9999], "start": 0, "stop": 1}))
    with pytest.raises(DataError, match="holds the token 9999, the model's tokenizer has"):
        finetune(dataclasses.replace(config, data=data))
    data = dataclasses.replace(config.data, clues_per_prompt=0)
    with pytest.raises(ConfigError, match="clues_per_prompt must be at least 1"):
        finetune(dataclasses.replace(config, data=data))


def test_one_training_at_a_time_writes_into_a_folder(material: Path, tmp_path: Path) -> None:
    config = experiment(material, tmp_path / "run", epochs=1)
    with lock_output(config.output), pytest.raises(DataError, match=r"another process is writing into .*run"):
        finetune(config)
    finetune(config)
    assert (tmp_path / "run" / "final").is_dir()


def test_workers_change_nothing(material: Path, tmp_path: Path) -> None:
    seen = []
    for workers in (0, 2):
        config = experiment(material, tmp_path / str(workers), workers=workers, epochs=1)
        finetune(config)
        seen.append(losses(config.output))
    assert seen[0] == seen[1]
    assert np.isfinite(seen[0]).all()


def test_datasets_travel_to_workers(material: Path) -> None:
    import pickle

    model = load_gemkr(ModelConfig(llm=str(material / "llm")))
    dataset = read_clue_dataset(material / "queries.jsonl", material / "clues.jsonl", model.input_builder())
    restored = pickle.loads(pickle.dumps((dataset, partial(collate, pad_id=0))))
    assert restored[0][3].sample.tokens.tolist() == dataset[3].sample.tokens.tolist()
    assert len(list(read_clues(material / "clues.jsonl"))) == 16


def test_the_command_trains_refuses_to_overwrite_and_resumes(material: Path, tmp_path: Path, capsys) -> None:
    config = experiment(material, tmp_path / "run", epochs=1)
    (tmp_path / "experiment.yaml").write_text(json.dumps(to_mapping(config)))
    words = ["train", str(tmp_path / "experiment.yaml"), "max_steps=3", "save_every=2"]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "final")
    assert main(words) == 1
    assert "already holds a training run; go on with --resume auto" in capsys.readouterr().err
    assert main([*words, "--resume", "auto"]) == 0
    assert main([*words, "batch_size=2", "--resume", "auto"]) == 1
    assert "batch_size was 4, is 2" in capsys.readouterr().err
    assert main([*words, "model.lorra=null"]) == 1
    assert "unknown key 'lorra'; the nearest known key is 'lora'" in capsys.readouterr().err


def test_clues_that_decoding_cannot_finish_are_reported(
    material: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = experiment(material, tmp_path / "run", max_steps=1)
    finetune(config)
    model = dataclasses.replace(config.model, checkpoint=str(tmp_path / "run/final"))
    lengths = [len(clue.tokens) for clue in read_clues(config.data.clues)]
    longest = max(lengths)
    caplog.clear()
    warn_of_long_clues(model, longest)
    warn_of_long_clues(config.model, 1)
    assert not caplog.messages
    warn_of_long_clues(model, longest - 1)
    share = 100 * lengths.count(longest) / len(lengths)
    assert caplog.messages == [
        f"{share:.0f} % of the clues that {model.checkpoint} learned are longer than decoding.max_tokens {longest - 1} and will "
        f"be cut off; set it to {longest}, or mine with --max-tokens {longest - 1}"
    ]
