"""Trainings of the networks that a found one is compared with."""

import torch
from torch import nn

from nascore.config import SpaceSection
from nascore.context import SearchContext, device_of
from nascore.errors import InputError
from nascore.pretrained.matching import WeightTransfer, load_weights
from nascore.pretrained.part_names import renaming
from nascore.reference.names import STANDARD
from nascore.reference.network_kind import ReferenceNetwork, genotype_of
from nascore.reference.networks import standard_space
from nascore.seeding import seeded_weights
from nascore.training import distributed
from nascore.training.final_model import FinalModel, train_network
from nascore.training.loop import train

_SHORT_S = 1.0  # a first weight update that takes longer is not repeated
_NUM_STEPS = 5


def new_reference(context: SearchContext, name: str) -> ReferenceNetwork:
    """Return a reference network with initial weights, on the device of the final training."""
    space: SpaceSection = context.search.space
    with seeded_weights(context.seeds.integer("reference", name)):
        network = ReferenceNetwork(name, context.shape, space)
    return network.to(device_of(context.final))


def train_reference(context: SearchContext, name: str, *, seconds: float) -> FinalModel:
    """Train a reference network by the final recipe for a time, and test it once.

    Args:
        context: of the run.
        name: of the network.
        seconds: wall time of the training.

    Raises:
        ChildFailedError: the loss is not finite, or the network does not fit in memory.
        TrainingStopped: the step was asked to stop.
    """
    network = new_reference(context, name)
    with torch.random.fork_rng(devices=[]):  # for dropout, which has no generator of its own
        torch.manual_seed(context.seeds.integer("reference", name, "dropout"))
        return train_network(
            context, network, genotype_of(name), seconds=seconds, started=_start(context, network)
        )


def _start(context: SearchContext, network: ReferenceNetwork) -> WeightTransfer | None:
    """Copy the weights of the context where they are of this network; else report the reason."""
    if context.start is None:
        return None
    space = standard_space(network.space) if network.name == STANDARD else None
    inside = renaming(
        network.network,
        context.start,
        space=space,
        genotype=None if space is None else space.standard,
        shape=context.shape,
    )

    def names(name: str) -> str | None:
        own = name.removeprefix("network.")
        return own if inside is None else inside(own)

    try:
        started = load_weights(
            network, context.start, classes=context.splits.info.classes, renaming=names
        )
    except InputError as error:
        reason = error.problems[0].message
        context.callbacks.on_message(f"{network.name} has initial weights: the file {reason}")
        return None
    context.callbacks.on_message(f"{network.name}: {started}")
    return started


def epochs_within(context: SearchContext, name: str, seconds: float) -> float:
    """Return how many epochs of a reference network fit in a time, from a few weight updates.

    Raises:
        ChildFailedError: the network does not fit in memory.
    """
    network = new_reference(context, name)
    step_s = _seconds_of_step(context, network, 1)
    if step_s < _SHORT_S:  # the first step prepares memory and kernels
        step_s = _seconds_of_step(context, network, _NUM_STEPS)
    return seconds / (step_s * context.splits.train.steps_per_epoch(context.final))


def _seconds_of_step(context: SearchContext, network: nn.Module, num_steps: int) -> float:
    training = train(
        network,
        context.splits.train,
        context.final.model_copy(update={"max_steps": num_steps}),
        generator=context.seeds.torch("reference", "trial"),
        should_stop=context.callbacks.should_stop,
    )
    # All processes of a group decide alike by it.
    return distributed.agree(training.duration_s / training.num_steps, device=distributed.CPU)
