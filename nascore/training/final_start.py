"""What the final network starts from and learns from besides its data, and the report of that."""

from typing import TYPE_CHECKING, Any

from torch import nn

from nascore.context import SearchContext
from nascore.genotype import Genotype
from nascore.training.fine_tuning import FineTuning
from nascore.training.losses import Loss, loss_of

if TYPE_CHECKING:
    from nascore.pretrained.matching import WeightTransfer


def start(
    context: SearchContext, network: nn.Module, genotype: Genotype
) -> "WeightTransfer | None":
    """Copy the weights of the context into a network, and report what was taken.

    Args:
        context: None is returned where it has no weights.
        network: with initial weights.
        genotype: of the network in the space of the context.

    Raises:
        InputError: weights that fit are not finite.
    """
    if context.start is None:
        return None
    from nascore.pretrained.matching import load_weights
    from nascore.pretrained.part_names import renaming  # imports torchvision

    names = renaming(
        network, context.start, space=context.space, genotype=genotype, shape=context.shape
    )
    started = load_weights(
        network,
        context.start,
        classes=context.splits.info.classes,
        renaming=names,
        needed=0.0,  # checked before the search, whose result is not discarded for it
    )
    context.callbacks.on_message(f"training.weights: {started}")
    return started


def fine_tuning(
    context: SearchContext, network: nn.Module, started: "WeightTransfer | None"
) -> FineTuning | None:
    """Return rates and freezing of the layers that start from weights; None where all are alike.

    Args:
        context: of the run.
        network: that is trained.
        started: what it has taken.
    """
    training = context.training
    if started is None or (training.freeze_epochs == 0 and training.layer_lr_decay == 1):
        return None
    return FineTuning(
        network,
        started.taken,
        freeze_epochs=training.freeze_epochs,
        lr_decay=training.layer_lr_decay,
    )


def taught_loss(context: SearchContext) -> Loss | None:
    """Return the loss with the teacher of the context; None without one."""
    if context.teacher is None:
        return None
    return loss_of(
        context.final,
        context.splits.train.class_weights_K,
        teacher=context.teacher,
        temperature=context.training.teacher_temperature,
        teacher_weight=context.training.teacher_weight,
    )


def origin_of(context: SearchContext) -> dict[str, Any]:
    """Return by what other runs use a network: space, classes, normalisation of the images."""
    info = context.splits.info
    return {
        "space": context.search.space.model_dump(mode="json"),
        "classes": list(info.classes),
        "mean": list(info.mean),
        "std": list(info.std),
    }


def transfer_of(context: SearchContext, started: "WeightTransfer | None") -> dict[str, Any]:
    """Return what a network has learned from, with the settings of that, as JSON."""
    training = context.training
    found: dict[str, Any] = {}
    if started is not None:
        found["weights"] = started.to_dict() | {
            "freeze_epochs": training.freeze_epochs,
            "layer_lr_decay": training.layer_lr_decay,
        }
    if context.teacher is not None:
        found["teacher"] = context.teacher.task.to_dict() | {
            "weight": training.teacher_weight,
            "temperature": training.teacher_temperature,
        }
    return found
