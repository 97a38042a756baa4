"""One step of training of an encoder's network, and what it changed."""

from __future__ import annotations

import torch
from torch import nn

from gemkr.models.embedder import Inputs


def take_a_step(network: nn.Module, inputs: Inputs) -> set[str]:
    """One step of SGD with dropout, over what learns; the names of all parameters and buffers that are of other values now."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
    vectors = network.train()(inputs)
    (vectors @ vectors.T).sum().backward()
    optimizer.step()
    network.eval()
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
