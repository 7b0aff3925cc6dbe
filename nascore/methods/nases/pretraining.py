"""NASES, stage A: the coder is trained on unlabelled architectures, once a space, and kept."""

import json
import time
from pathlib import Path

from nascore.errors import CheckpointError
from nascore.methods.nases.autoencoder import Autoencoder, make_coder, train_coder
from nascore.methods.nases.options import CoderOptions
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.training import checkpoint

VERSION = 1
_KIND = "nases-coder"
_CODER = "coder.pt"
_CARD = "controller.json"


def pretrain_coder(
    options: CoderOptions, space: SearchSpace, seeds: Seeds, folder: Path
) -> dict[str, float]:
    """Trains encoder and decoder on unlabelled architectures and writes them to `folder`.

    Returns:
        What `train_coder` finds on held-out strings, and `seconds`.
    """
    coder = make_coder(space.cardinalities, options, seed=seeds.integer("coder", "weights"))
    start = time.perf_counter()
    metrics = train_coder(coder, space.cardinalities, options, seeds.torch("coder", "strings"))
    metrics["seconds"] = time.perf_counter() - start
    folder.mkdir(parents=True, exist_ok=True)
    card = {"version": VERSION, "method": "nases", "space": space.identifier}
    card["coder"] = options.model_dump(mode="json")
    checkpoint.save(folder / _CODER, coder.state_dict(), card, _KIND)
    (folder / _CARD).write_text(json.dumps({**card, "metrics": metrics}, indent=2))
    return metrics


def load_coder(folder: Path, options: CoderOptions, space: SearchSpace) -> Autoencoder:
    """Raises CheckpointError when the coder is of another space or made with other options."""
    weights, card = checkpoint.load(folder / _CODER, _KIND)
    wanted = {"space": space.identifier, "coder": options.model_dump(mode="json")}
    for name, value in wanted.items():
        if card[name] != value:
            raise CheckpointError(f"{folder}: {name} is {card[name]!r}, expected {value!r}")
    coder = make_coder(space.cardinalities, options, seed=0)
    coder.load_state_dict(weights)
    return coder.requires_grad_(False)


def coder_seconds(folder: Path) -> float:
    """What stage A has cost, by its own clock."""
    return float(json.loads((folder / _CARD).read_text())["metrics"]["seconds"])
