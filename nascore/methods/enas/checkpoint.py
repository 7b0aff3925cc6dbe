"""The checkpoint of one arm of a search with shared weights, as other programs read it."""

from pathlib import Path

from torch import Tensor

from nascore import checkpoint
from nascore.errors import CheckpointError, InputError
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.enas.options import RandomWsOptions
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace

KIND = "shared-weights"


def load_policy_state(
    state: Path,
    arm: str,
    *,
    method: str,
    space: SearchSpace,
    seeds: Seeds,
    options: RandomWsOptions,
) -> dict[str, Tensor]:
    """Return what `Policy.state` returned when the checkpoint of an arm was written.

    Args:
        state: the folder of the search (`nascore.context.SearchContext.state`).

    Raises:
        InputError: there is no checkpoint, or it is damaged, or of another search.
    """
    path = checkpoint_path(state, arm)
    if not path.exists():
        raise missing(path)
    try:
        tensors, values = checkpoint.load(path, KIND)
    except CheckpointError as error:
        raise InputError.of("checkpoint", path, str(error)) from error
    expected = {
        "arm": arm,
        "method": method,
        "space": space.identifier,
        "seed": seeds.seed,
        "options": options.model_dump(mode="json"),
    }
    if any(values["identity"].get(key) != value for key, value in expected.items()):
        raise InputError.of(
            "checkpoint", path, "is of a search with other settings; name the folder of this search"
        )
    return checkpoint.below("policy.", tensors)


def missing(path: Path) -> InputError:
    """Return the error about a search without a checkpoint."""
    return InputError.of(
        "checkpoint", path, "does not exist: this search has not saved one yet; run it first"
    )
