"""Programs of `torch.export` that a run hands over beside its weights; they need no class of ours.

A network that sends each image along its own path is handed over in parts: the policy network, and
the stand-alone networks of the policies that most validation images have. `programs.json` says what
they are:

| key | content |
| --- | --- |
| `version` | of this form |
| `controller` | `file`: pixels -> probabilities (B, L, O); an operation is taken from 0.5 on |
| `experts` | most used first: `file`, pixels -> logits (B, K); `policy` (L, O); `num_images` |
| `num_images` | in the validation split; of an expert, those that have its policy |

All take pixels as they are stored, float (B, C, H, W) of 0..255, and any number of images.

B images, L blocks, O operations, C channels, K classes.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.export.manifest import PROGRAMS
from nascore.data.prepared import DatasetInfo
from nascore.methods.instanas.export import export, folded
from nascore.methods.instanas.routed_network import Routed
from nascore.spaces.base import ImageShape
from nascore.training.final_model import DeployedModel, FinalModel

VERSION = 1
MAX_EXPERTS = 3
CONTROLLER = "controller.pt2"


def write_programs(folder: Path, final: FinalModel, info: DatasetInfo) -> dict[str, Path]:
    """Writes what a network can be handed over as, beside its weights.

    Returns:
        The files by their names; none where all images have the same network.
    """
    network = final.network
    if not isinstance(network, Routed):
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    policies = final.details["instanas"]["policies"]
    parts: dict[str, nn.Module] = {CONTROLLER: network.controller}
    experts: list[dict[str, Any]] = []
    for number, (policy, num_images) in enumerate(policies["most_used"][:MAX_EXPERTS], start=1):
        name = f"expert-{number}.pt2"
        parts[name] = network.meta_graph.static(torch.tensor(policy))
        experts.append({"file": name, "policy": policy, "num_images": num_images})
    for name, part in parts.items():
        _write(folder / name, part, info, final.shape)
    described = {
        "version": VERSION,
        "controller": {"file": CONTROLLER},
        "experts": experts,
        "num_images": policies["num_images"],
    }
    (folder / PROGRAMS).write_text(json.dumps(described, indent=2))
    return {name: folder / name for name in (*parts, PROGRAMS)}


def _write(path: Path, network: nn.Module, info: DatasetInfo, shape: ImageShape) -> None:
    """With the normalisation of the training data inside, as in every model that is deployed."""
    torch.export.save(export(DeployedModel(folded(network), info).eval(), shape), path)
