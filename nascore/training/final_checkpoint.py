"""Checkpoints of final trainings, from which a step that was killed continues."""

import hashlib
import json
from pathlib import Path

from torch import nn

from nascore.context import SearchContext
from nascore.genotype import Genotype
from nascore.training.network_kinds import spec_of
from nascore.training.resumable import TrainingCheckpoint

EVERY_S = 30.0
"""Seconds between two checkpoints of a final training."""

_PREFIX = "final-training-"


def final_checkpoint(
    context: SearchContext, network: nn.Module, genotype: Genotype, seconds: float | None
) -> TrainingCheckpoint:
    """Return the checkpoint of the training of a network, in the state folder of the step.

    Its name is a digest of all that the training depends on, so that trainings of other networks or
    with other settings neither find it nor replace it.

    Args:
        context: settings, data and seed.
        network: that is trained.
        genotype: of the network.
        seconds: limit of time; None: the training ends after its epochs.
    """
    start, teacher = context.start, context.teacher
    identity = {
        "method": context.method,
        "space": context.search.space.model_dump(mode="json"),
        "genotype": genotype.to_dict(),
        "network": spec_of(network),
        "seed": context.seeds.seed,
        "data": context.splits.info.data_sha256,
        "training": context.final.model_dump(mode="json", exclude={"device", "devices"}),
        "objective": context.search.objective,
        "seconds": seconds,
        "start": None if start is None else start.sha256,
        "teacher": None if teacher is None else teacher.task.identity,
    }
    text = json.dumps(identity, sort_keys=True)
    name = f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:16]}.ckpt"
    return TrainingCheckpoint(context.state / name, "final-training", identity, every_s=EVERY_S)


def remove_final_checkpoints(state: Path) -> None:
    """Remove checkpoints of final trainings from a state folder; call it when models are saved."""
    for path in state.glob(f"{_PREFIX}*.ckpt"):
        path.unlink(missing_ok=True)
