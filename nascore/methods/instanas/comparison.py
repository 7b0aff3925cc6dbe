"""After the search: its points and the network of its control are trained further and compared.

Each is trained for as long as a child. N images, L blocks, O operations.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascore.context import device_of
from nascore.methods.instanas import ablation, search_points
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.networks import Context, space_of
from nascore.methods.instanas.point_checkpoints import load_point
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import Point, evaluate, is_correct
from nascore.methods.instanas.static_baseline import Static, best_static
from nascore.methods.instanas.supernet import MetaGraph
from nascore.results import Child, ChildScores
from nascore.spaces.base import make_genotype
from nascore.training.loop import TrainingStopped, train

NUM_STATIC = 50  # random networks of the control, of which the best is taken


def network_of(context: Context, folder: Path, point: Point) -> Routed:
    """Return the network of a point that was saved in a folder."""
    network = load_point(folder, point, space_of(context), context.shape)
    return network.to(device_of(context.final))


def tune_points(
    context: Context, points: Sequence[Point], graph: MetaGraph
) -> tuple[list[Point], list[Tensor]]:
    """Train each point further, with its policy frozen; after a request to stop, none.

    Args:
        graph: any meta-graph of the search, whose parameters are counted.

    Returns:
        The points with their validation accuracies, and which images each classifies correctly,
        bool (N,).
    """
    tuned, correct = [], []
    for point in points:
        network = network_of(context, context.state, point)
        with contextlib.suppress(TrainingStopped):
            is_correct_N = _tuned(context, network, f"method {point.name}")
            correct.append(is_correct_N)
            accuracy = float(is_correct_N.double().mean())
            point = dataclasses.replace(point, valid_accuracy=accuracy)
            context.callbacks.on_child("method", child_of(context, graph, point))
        tuned.append(point)
    return tuned, correct


def tune_static(
    context: Context, graph: MetaGraph, table: LatencyTable, point: Point
) -> Static | None:
    """Return the network of the control, trained further; None if none is fast enough.

    Also None after a request to stop.

    Args:
        graph: of the control.
        point: its latency is the limit.
    """
    if context.callbacks.should_stop():
        return None
    static = best_static(
        graph,
        table,
        context.splits.valid,
        context.seeds.numpy("control", "static"),
        number=NUM_STATIC,
        at_most=point.latency,
    )
    if static is None:
        return None
    with contextlib.suppress(TrainingStopped):
        return dataclasses.replace(static, is_correct_N=_tuned(context, static.network, "control"))
    return None


def _tuned(context: Context, network: nn.Module, name: str) -> Tensor:
    """Train a network as a child; return which validation images it classifies correctly, (N,)."""
    train(
        network,
        context.splits.train,
        context.child,
        generator=context.seeds.torch(name, "tuning"),
        should_stop=context.callbacks.should_stop,
    )
    return is_correct(network, context.splits.valid)


def verdict(
    context: Context, point: Point, is_correct_N: Tensor, static: Static | None, table: LatencyTable
) -> dict[str, Any]:
    """Return the verdict on a point, from the validation split.

    Policies are shuffled before any further training: until then, all weights have been trained
    with the policies of other images.

    Args:
        is_correct_N: the validation images that the point classifies correctly after tuning.
        static: the network of the control; None where there is none.
    """
    valid, seeds = context.splits.valid, context.seeds
    own = network_of(context, context.state, point)
    evaluated = evaluate(own.meta_graph, own.controller, table, valid)
    order_N = torch.randperm(valid.num_images, generator=seeds.torch("shuffled"))
    others_N = search_points.is_correct_by(own.meta_graph, evaluated.policy_NLO[order_N], valid)
    rng = seeds.numpy("verdict")
    shuffled = ablation.compare(evaluated.is_correct_N, others_N, rng)
    against = None if static is None else ablation.compare(is_correct_N, static.is_correct_N, rng)
    return ablation.verdict(shuffled, against)


def child_of(context: Context, graph: MetaGraph, point: Point) -> Child:
    """Return a point as a child of the method's arm."""
    return Child.of_scores(
        point.number,
        make_genotype(context.space, point.tokens),
        ChildScores(
            valid_accuracy=point.accuracy,
            train_accuracy=point.train_accuracy,
            num_params=_num_params(graph),
            cost=point.latency,
        ),
        num_steps=point.step,
    )


def static_child(context: Context, static: Static) -> Child:
    """Return the network of the control as its child."""
    return Child.of_scores(
        0,
        make_genotype(context.space, static.policy_LO.flatten().int().tolist()),
        ChildScores(
            valid_accuracy=float(static.is_correct_N.double().mean()),
            num_params=_num_params(static.network),
            cost=static.latency,
        ),
    )


def _num_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
