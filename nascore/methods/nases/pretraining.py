"""Stage A of NASES as a step: the autoencoder of a space, trained and stored in a folder."""

import json
import logging
import time
from pathlib import Path

from nascore import checkpoint
from nascore.errors import CheckpointError
from nascore.methods.nases.autoencoder import (
    AnyOptions,
    Autoencoder,
    make_autoencoder,
    train_autoencoder,
)
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace

VERSION = 1
_KIND = "nases-autoencoder"
_WEIGHTS = "autoencoder.pt"
_CARD = "controller.json"
_STREAM = "coder"  # names the random streams; another name would change all results

_log = logging.getLogger(__name__)


def pretrain_autoencoder(
    options: AnyOptions, space: SearchSpace, seeds: Seeds, folder: Path
) -> dict[str, float]:
    """Train encoder and decoder on unlabelled architectures and write them to `folder`.

    Returns:
        The figures of `train_autoencoder`, and `seconds`.
    """
    autoencoder = make_autoencoder(
        space.cardinalities, options, seed=seeds.integer(_STREAM, "weights")
    )
    start = time.perf_counter()
    strings = seeds.torch(_STREAM, "strings")
    metrics = train_autoencoder(autoencoder, space.cardinalities, options, strings)
    metrics["seconds"] = time.perf_counter() - start
    _log.info(
        "autoencoder of %s: %.1f%% of held-out architectures decoded exactly after %d updates",
        space.identifier,
        100 * metrics["exact_round_trip"],
        options.steps,
    )
    folder.mkdir(parents=True, exist_ok=True)
    card = {"version": VERSION, "method": "nases", "space": space.identifier}
    card["autoencoder"] = options.model_dump(mode="json")
    checkpoint.save(folder / _WEIGHTS, autoencoder.state_dict(), card, _KIND)
    (folder / _CARD).write_text(json.dumps({**card, "metrics": metrics}, indent=2))
    return metrics


def load_autoencoder(folder: Path, options: AnyOptions, space: SearchSpace) -> Autoencoder:
    """Load what `pretrain_autoencoder` wrote, with frozen weights.

    Raises:
        CheckpointError: the autoencoder is of another space or was trained with other options.
    """
    weights, card = checkpoint.load(folder / _WEIGHTS, _KIND)
    wanted = {"space": space.identifier, "autoencoder": options.model_dump(mode="json")}
    for name, value in wanted.items():
        if card[name] != value:
            raise CheckpointError(f"{folder}: {name} is {card[name]!r}, expected {value!r}")
    autoencoder = make_autoencoder(space.cardinalities, options, seed=0)
    autoencoder.load_state_dict(weights)
    return autoencoder.requires_grad_(False)


def autoencoder_seconds(folder: Path) -> float:
    """Return the wall seconds of stage A."""
    return float(json.loads((folder / _CARD).read_text())["metrics"]["seconds"])
