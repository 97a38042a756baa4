"""AdamW over the trained parameters, and its state as named tensors that a checkpoint can hold.

Knows parameters by their names only: what is decayed, and what learns at the projector's own rate.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gemkr.errors import CheckpointError
from gemkr.training.loop.config import OptimizerConfig
from gemkr.training.loop.schedule import Schedule

UNDECAYED_WORDS = ("bias", "gate", "norm", "ln_")
LLM_PREFIX = "llm."
TEXT_ENCODER_PREFIX = "text_encoder."
EMBEDDINGS = "embed_tokens"
NEW_LAYERS = tuple(
    f"network.{part}."
    for part in (
        "fusion",
        "pooler",
        "query_linear",
        "document_linear",
        "image_mapping",
        "patch_input",
        "patch_layers",
        "patch_output",
    )
)
CARRIED = "carried/"
"""Before the names of what a model keeps from step to step beside its parameters, among the tensors of the optimizer."""
_STATE_PARTS = ("step", "exp_avg", "exp_avg_sq")


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Weight decay is for matrices: never for norms, biases, gates and other vectors."""
    return parameter.ndim >= 2 and not any(word in name for word in UNDECAYED_WORDS)


def build_optimizer(parameters: Mapping[str, nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with a group for each peak rate (LLM, its embeddings, text encoder, the rest), decayed or not.

    Each group keeps its peak rate under `peak_lr`; `set_rates` turns it into the rate of a step.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        rate = _peak_rate(name, config)
        decay = config.weight_decay if is_decayed(name, parameter) else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), members in groups.items()
        ],
        betas=(0.9, config.beta2),
        eps=config.eps,
        fused=True,
    )


def _peak_rate(name: str, config: OptimizerConfig) -> float:
    if config.new_lr is not None and name.startswith(NEW_LAYERS):
        return config.new_lr
    if config.text_encoder_lr is not None and name.startswith(TEXT_ENCODER_PREFIX):
        return config.text_encoder_lr
    if config.projector_lr is not None and not name.startswith(LLM_PREFIX):
        return config.projector_lr
    if config.embedding_lr is not None and EMBEDDINGS in name:
        return config.embedding_lr
    return config.lr


def set_rates(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int) -> None:
    """Give every group the rate of a step."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(group["peak_lr"], step)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """`step/NAME`, `exp_avg/NAME`, `exp_avg_sq/NAME` of every parameter that has taken a step, on the CPU."""
    tensors = {}
    for name, parameter in parameters.items():
        for part, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{part}/{name}"] = value.detach().cpu().contiguous()
    return tensors


def carried_tensors(carried: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a model keeps from step to step, under names of its own."""
    return {f"{CARRIED}{name}": value for name, value in carried.items()}


def split_carried(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(the optimizer's tensors, what the model keeps from step to step)."""
    carried = {name.removeprefix(CARRIED): t for name, t in tensors.items() if name.startswith(CARRIED)}
    return {name: t for name, t in tensors.items() if not name.startswith(CARRIED)}, carried


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    where: str,
) -> None:
    """The inverse of `optimizer_tensors`; CheckpointError for a key that no parameter has or a wrong shape."""
    known = {f"{part}/{name}" for part in _STATE_PARTS for name in parameters}
    foreign = sorted(set(tensors) - known)
    if foreign:
        raise CheckpointError(
            f"{where} holds optimizer state {foreign[0]!r} that the model has no parameter for"
        )
    for name, parameter in parameters.items():
        state = {part: tensors[f"{part}/{name}"] for part in _STATE_PARTS if f"{part}/{name}" in tensors}
        if not state:
            continue
        missing = [part for part in _STATE_PARTS if part not in state]
        if missing:
            raise CheckpointError(f"{where} lacks the optimizer state '{missing[0]}/{name}'")
        if state["exp_avg"].shape != parameter.shape:
            raise CheckpointError(
                f"{where} holds optimizer state of shape {list(state['exp_avg'].shape)} for {name!r}, "
                f"the model has {list(parameter.shape)}"
            )
        optimizer.state[parameter] = {
            part: value.to(parameter.device if part != "step" or parameter.is_cuda else "cpu").clone()
            for part, value in state.items()
        }
