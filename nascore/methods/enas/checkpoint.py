"""The checkpoint of an arm: what its search goes on from, and what others may look into."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nascore.errors import CheckpointError, InputError
from nascore.methods.enas.options import RandomWsOptions
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.training import checkpoint

KIND = "shared-weights"


def path_of(state: Path, arm: str) -> Path:
    return state / f"{arm}.ckpt"


def load_policy_state(
    state: Path,
    arm: str,
    *,
    method: str,
    space: SearchSpace,
    seeds: Seeds,
    options: RandomWsOptions,
) -> dict[str, Tensor]:
    """What `Policy.state` gave when the arm's checkpoint in the folder `state` was written.

    Raises:
        InputError: there is no checkpoint, or it is damaged, or of another search.
    """
    path = path_of(state, arm)
    tensors, meta = load(path)
    check_identity(path, meta, settings(arm, method, space, seeds, options))
    return checkpoint.below("policy.", tensors)


def settings(
    arm: str, method: str, space: SearchSpace, seeds: Seeds, options: RandomWsOptions
) -> dict[str, Any]:
    """What an arm is told from others by, its data left out."""
    return {
        "arm": arm,
        "method": method,
        "space": space.identifier,
        "seed": seeds.seed,
        "options": options.model_dump(mode="json"),
    }


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and what describes them; raises InputError when damaged or not there."""
    if not path.exists():
        raise InputError.of("checkpoint", path, "is not there: this search has not saved any yet")
    try:
        return checkpoint.load(path, KIND)
    except CheckpointError as error:
        raise InputError.of(
            "checkpoint", path, f"{error}; delete it to start the search anew"
        ) from error


def check_identity(path: Path, meta: dict[str, Any], made_with: Mapping[str, Any]) -> None:
    """Raises InputError unless all of `made_with` is part of the checkpoint's identity."""
    identity = meta["identity"]
    if any(identity.get(key) != value for key, value in made_with.items()):
        raise InputError.of(
            "checkpoint",
            path,
            "is of a search with other settings; take another folder, or delete it to start "
            "the search anew",
        )
