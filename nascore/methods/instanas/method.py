"""InstaNAS (arXiv 1811.10201): an architecture for each image, chosen by accuracy and latency.

The three stages of the released code are the three steps of a pipeline:

1. `pretrain`: a latency table of the machine, then the meta-graph learns with operations left out
   at random (`nascore.methods.instanas.pretraining`).
2. `search`: controller and meta-graph learn in turn
   (`nascore.methods.instanas.alternating_trainer`); five points A to E are kept on the way, and one
   is chosen. The control trains a meta-graph for as many steps on uniform policies and takes the
   best of random networks, the same for all images, that is no slower than the chosen point. Both
   are trained on for as long as a child, and compared.
3. `train_final`: the meta-graph of the chosen point is trained on with the policy frozen.

N images, L blocks, O operations.
"""

import contextlib
import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nascore.context import SearchContext, device_of
from nascore.errors import CheckpointError
from nascore.methods.common import one_shot_loop
from nascore.methods.instanas import ablation, costs, search_points
from nascore.methods.instanas.alternating_trainer import AlternatingTrainer, window_schedule
from nascore.methods.instanas.controller import PolicyNetwork, make_policy_network
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.mobilenet_baseline import train_baseline
from nascore.methods.instanas.options import InstanasOptions
from nascore.methods.instanas.point_checkpoints import SelectedPoint, export_points, load_point
from nascore.methods.instanas.pretraining import random_policy, train_by_dropping
from nascore.methods.instanas.routed_network import Routed
from nascore.methods.instanas.search_points import Point, is_correct, judge
from nascore.methods.instanas.static_baseline import Static, best_static
from nascore.methods.instanas.summary import describe
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.results import Arm, Child, ChildScores, SearchResult, pareto_front
from nascore.spaces.base import make_genotype
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.mobilenet.space import MobileSpace
from nascore.training import checkpoint
from nascore.training.final_model import FinalModel, train_network
from nascore.training.loop import TrainingStopped, train, uses_one_thread
from nascore.training.parallel_arms import run_pair
from nascore.training.resumable import TrainingCheckpoint
from nascore.versions import versions

CARD = "controller.json"
_GRAPH = "metagraph.ckpt"
_PRETRAINED = "instanas-pretraining"
NUM_STATIC = 50  # random networks of the control, of which the best is taken


def _options(context: SearchContext) -> InstanasOptions:
    assert isinstance(context.options, InstanasOptions)
    return context.options


# --- stage 1: the meta-graph before the search --------------------------------------------------


def pretrain(context: SearchContext) -> dict[str, float]:
    """Table and meta-graph, left in `context.controller`.

    Raises:
        InputError: no policy can reach `latency.target_ms`, the window of latencies would be empty,
            or a table that was given is of another machine or network: before anything is trained.
        WeightsDiverged: the loss is not finite.
    """
    options, start = _options(context), time.perf_counter()
    graph = _new_graph(context)
    table = costs.make_table(context, graph, _new_controller(context, graph))
    window_schedule(table, options)
    if context.latency.target_ms is not None and table.unit == "ms":
        table.check_target(context.latency.target_ms)
    kept = TrainingCheckpoint(
        context.state / _GRAPH, _PRETRAINED, _identity(context), every_s=one_shot_loop.CHECKPOINT_EVERY_S
    )
    train_by_dropping(
        graph.to(device_of(context.training)),
        context.splits.train,
        options.pretraining.resolve(context.training),
        options,
        context.seeds,
        kept,
        report=context.callbacks.on_metrics,
        should_stop=context.callbacks.should_stop,
    )
    metrics = _sub_network_accuracies(context, graph) | {"seconds": time.perf_counter() - start}
    for name in (_GRAPH, costs.FILE):  # what was kept while it was made goes on to the search
        if (context.state / name).exists():
            shutil.copyfile(context.state / name, context.controller / name)
    card = {"version": 1, "method": context.method, "metrics": metrics}
    (context.controller / CARD).write_text(json.dumps(card))
    return metrics


def _sub_network_accuracies(context: SearchContext, graph: MetaGraph) -> dict[str, float]:
    """With all operations, and with random ones: a policy can be judged if the second is not far
    below the first."""
    valid = context.splits.valid
    everything = torch.ones(valid.num_images, *graph.policy_shape, dtype=torch.bool)
    generator = context.seeds.torch("pretraining", "check")
    some = random_policy(
        valid.num_images, graph.policy_shape, _options(context).final_keep_prob, generator
    )
    right = {"all": everything, "some": some}
    return {
        f"valid_accuracy_{name}_operations": float(
            search_points.is_correct_by(graph, policy_NLO, valid).double().mean()
        )
        for name, policy_NLO in right.items()
    }


def _new_graph(context: SearchContext) -> MetaGraph:
    return make_metagraph(
        cast(MobileSpace, context.space), context.shape, seed=context.seeds.integer("meta-graph")
    )


def _new_controller(context: SearchContext, graph: MetaGraph) -> PolicyNetwork:
    settings = _options(context).controller
    return make_policy_network(
        context.shape.channels,
        graph.policy_shape,
        seed=context.seeds.integer("controller"),
        channels=settings.channels,
        num_stages=settings.num_stages,
        pooling=settings.pooling,
    )


def _load_graph(context: SearchContext) -> MetaGraph:
    graph = _new_graph(context)
    kept = TrainingCheckpoint(context.controller / _GRAPH, _PRETRAINED, _identity(context), every_s=0.0)
    found = kept.load()
    if found is None:
        raise CheckpointError(f"{context.controller} holds no meta-graph; run the step before again")
    graph.load_state_dict(checkpoint.below("graph.", found[0]))
    return graph.to(device_of(context.training))


def _identity(context: SearchContext) -> dict[str, Any]:
    """What a checkpoint must have been made with to be gone on from."""
    assert isinstance(context.search.space, MobileSpaceConfig)
    return {
        "space": context.search.space.model_dump(mode="json"),
        "seed": context.seeds.seed,
        "options": _options(context).model_dump(mode="json", exclude={"baseline"}),
        "shape": [context.shape.channels, context.shape.size, context.shape.num_classes],
        "data": context.splits.info.data_sha256,
        **context.objective_settings(),
    }


# --- stage 2: the search ------------------------------------------------------------------------


def search(context: SearchContext) -> SearchResult:
    """Points A to E, and the one that is chosen, against the control.

    Raises:
        WeightsDiverged: the loss is not finite.
        InputError: a checkpoint is damaged or of another search.
    """
    graph = _load_graph(context)
    table = costs.load_table(context, graph, _new_controller(context, graph))
    method = _arm(context, table, "method", _new_controller(context, graph))
    control = _arm(context, table, "control", None) if context.search.control else None
    run_pair(
        method.run,
        lambda: None if control is None else control.run(),
        at_once=uses_one_thread(context.splits.train, _options(context).weights),
    )
    found, right = _judge_points(context, method)
    chosen = search_points.choose(
        found,
        tolerance=_options(context).accuracy.tolerance,
        target=context.latency.target_ms if table.unit == "ms" else None,
    )
    if context.weights is not None:
        export_points(context.state, context.weights, found, chosen, table)
    children = tuple(_child(context, graph, point) for point in found)
    static = None if control is None else _static(context, control, table, chosen.point)
    other = None
    if control is not None and static is not None:
        other = Arm("random-ws", (_static_child(context, static),), control.seconds)
        context.callbacks.on_child("control", other.children[0])
    compared = None
    if not context.callbacks.should_stop():
        compared = _verdict(context, chosen.point, right[chosen.point.number], static, table)
    return SearchResult(
        method=context.method,
        seed=context.seeds.seed,
        genotype=children[chosen.point.number].genotype,
        valid_accuracy=chosen.point.accuracy,
        arm=Arm(context.method, children, method.seconds),
        control=other,
        verdict=compared,
        cost_metric="latency_ms" if table.unit == "ms" else "macs",
        pareto=pareto_front(children),
        versions=versions(),
    )


def _arm(
    context: SearchContext, table: LatencyTable, name: str, controller: PolicyNetwork | None
) -> AlternatingTrainer:
    device = device_of(context.training)
    return AlternatingTrainer(
        context,
        name,
        _load_graph(context),
        None if controller is None else controller.to(device),
        table,
        identity=_identity(context) | {"budget": context.search.budget.model_dump(mode="json")},
        prior_cost_s=json.loads((context.controller / CARD).read_text())["metrics"]["seconds"],
    )


def _judge_points(
    context: SearchContext, method: AlternatingTrainer
) -> tuple[list[Point], list[Tensor]]:
    """Each point trained on as a child is, with its policy frozen; as they are after a stop.

    Returns:
        The points with their validation accuracies, and which images each classifies right (N,).
    """
    found, right = [], []
    for point in method.points:
        network = _load_point(context, context.state, point)
        with contextlib.suppress(TrainingStopped):
            right_N = _tuned(context, network, f"method {point.name}")
            right.append(right_N)
            accuracy = float(right_N.double().mean())
            point = dataclasses.replace(point, valid_accuracy=accuracy)
            context.callbacks.on_child("method", _child(context, method.graph, point))
        found.append(point)
    return found, right


def _load_point(context: SearchContext, folder: Path, point: Point) -> Routed:
    network = load_point(folder, point, cast(MobileSpace, context.space), context.shape)
    return network.to(device_of(context.final))


def _tuned(context: SearchContext, network: nn.Module, name: str) -> Tensor:
    """Which validation images a network classifies right after a child's training, bool (N,)."""
    train(
        network,
        context.splits.train,
        context.child,
        generator=context.seeds.torch(name, "tuning"),
        should_stop=context.callbacks.should_stop,
    )
    return is_correct(network, context.splits.valid)


def _static(
    context: SearchContext, control: AlternatingTrainer, table: LatencyTable, point: Point
) -> Static | None:
    """The control's choice, trained on as the points were."""
    if context.callbacks.should_stop():
        return None
    static = best_static(
        control.graph,
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


def _verdict(
    context: SearchContext, point: Point, right_N: Tensor, static: Static | None, table: LatencyTable
) -> dict[str, Any]:
    """On the validation split. Policies are shuffled before any further training: until then, all
    weights have seen the policies of other images."""
    valid, seeds = context.splits.valid, context.seeds
    own = _load_point(context, context.state, point)
    judged = judge(own.meta_graph, own.controller, table, valid)
    order_N = torch.randperm(valid.num_images, generator=seeds.torch("shuffled"))
    others_N = search_points.is_correct_by(own.meta_graph, judged.policy_NLO[order_N], valid)
    rng = seeds.numpy("verdict")
    shuffled = ablation.compare(judged.is_correct_N, others_N, rng)
    against = None if static is None else ablation.compare(right_N, static.is_correct_N, rng)
    return ablation.verdict(shuffled, against)


def _child(context: SearchContext, graph: MetaGraph, point: Point) -> Child:
    return Child.of_scores(
        point.number,
        make_genotype(context.space, point.tokens),
        ChildScores(
            valid_accuracy=point.accuracy,
            train_accuracy=point.train_accuracy,
            num_params=sum(parameter.numel() for parameter in graph.parameters()),
            cost=point.latency,
        ),
        num_steps=point.step,
    )


def _static_child(context: SearchContext, static: Static) -> Child:
    accuracy = float(static.is_correct_N.double().mean())
    return Child.of_scores(
        0,
        make_genotype(context.space, static.policy_LO.flatten().int().tolist()),
        ChildScores(
            valid_accuracy=accuracy,
            num_params=sum(parameter.numel() for parameter in static.network.parameters()),
            cost=static.latency,
        ),
    )


# --- stage 3: the meta-graph alone --------------------------------------------------------------


def train_final(context: SearchContext, result: SearchResult) -> FinalModel:
    """Trains the chosen point's meta-graph on with the policy frozen, and judges it once on the
    test split.

    Raises:
        InputError: the weights of the search are not there.
    """
    handed = SelectedPoint.read(context.weights)
    network = _load_point(context, handed.folder, handed.chosen)
    final = train_network(context, network, result.genotype)
    details, macs = describe(network, context.splits, handed.described, context.seeds)
    if _options(context).baseline:
        latency = handed.described["table"]["baseline"]
        with contextlib.suppress(TrainingStopped):  # the network that was searched for is trained
            details["baseline"] = train_baseline(context, handed.chosen, latency=latency).to_dict()
    return dataclasses.replace(final, macs=macs, details={"instanas": details})
