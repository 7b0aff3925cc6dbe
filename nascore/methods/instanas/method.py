"""InstaNAS (arXiv 1811.10201): an architecture for each image, chosen by accuracy and latency.

The three stages of the released code are the three steps of a pipeline:

1. `pretrain`: a latency table of the machine, then the training of the meta-graph with operations
   dropped at random (`nascore.methods.instanas.pretraining`).
2. `search`: controller and meta-graph are trained in turn
   (`nascore.methods.instanas.alternating_trainer`); points A, B, ... are saved on the way, and one
   is chosen. The control trains a meta-graph for as many steps on uniform policies and takes the
   best of random networks, the same for all images, that is no slower than the chosen point. Both
   are trained further for as long as a child, and compared (`nascore.methods.instanas.comparison`).
3. `train_final`: the meta-graph of the chosen point is trained further with the policy frozen.

N images, L blocks, O operations.
"""

import contextlib
import dataclasses
import shutil
import time

import torch

from nascore.context import device_of
from nascore.methods.common.controller_folder import seconds_of, write_card
from nascore.methods.instanas import comparison, costs, search_points
from nascore.methods.instanas.alternating_trainer import AlternatingTrainer
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.mobilenet_baseline import train_baseline
from nascore.methods.instanas.networks import (
    PRETRAINED,
    Context,
    load_graph,
    new_controller,
    new_graph,
    pretraining_checkpoint,
)
from nascore.methods.instanas.point_checkpoints import SelectedPoint, export_points
from nascore.methods.instanas.pretraining import random_policy, train_by_dropping
from nascore.methods.instanas.reward import window_schedule
from nascore.methods.instanas.summary import describe
from nascore.methods.instanas.supernet import MetaGraph
from nascore.results import Arm, SearchResult, pareto_front
from nascore.training.final_model import FinalModel, train_network
from nascore.training.loop import TrainingStopped, uses_one_thread
from nascore.training.parallel_arms import run_pair
from nascore.versions import versions

# --- stage 1: the meta-graph before the search --------------------------------------------------


def pretrain(context: Context) -> dict[str, float]:
    """Make the latency table and train the meta-graph; leave both in `context.controller`.

    Raises:
        InputError: no policy can reach `latency.target_ms`, the window of latencies would be empty,
            or a table that was given is of another machine or network: before any training.
        WeightsDivergedError: the loss is not finite.
    """
    start = time.perf_counter()
    graph = new_graph(context)
    table = costs.make_table(context, graph, new_controller(context, graph))
    window_schedule(table, context.options)
    if context.latency.target_ms is not None and table.unit == "ms":
        table.check_target(context.latency.target_ms)
    graph = graph.to(device_of(context.training))
    train_by_dropping(context, graph, pretraining_checkpoint(context))
    metrics = _sub_network_accuracies(context, graph) | {"seconds": time.perf_counter() - start}
    for name in (PRETRAINED, costs.FILE):
        if (context.state / name).exists():
            shutil.copyfile(context.state / name, context.controller / name)
    write_card(context, metrics)
    return metrics


def _sub_network_accuracies(context: Context, graph: MetaGraph) -> dict[str, float]:
    """Return the accuracy with all operations and with random ones.

    Policies can be evaluated with the meta-graph if the second is not far below the first.
    """
    valid, shape = context.splits.valid, graph.policy_shape
    generator = context.seeds.torch("pretraining", "check")
    policies = {
        "all": torch.ones(valid.num_images, *shape, dtype=torch.bool),
        "some": random_policy(valid.num_images, shape, context.options.final_keep_prob, generator),
    }
    return {
        f"valid_accuracy_{name}_operations": float(
            search_points.is_correct_by(graph, policy_NLO, valid).double().mean()
        )
        for name, policy_NLO in policies.items()
    }


# --- stage 2: the search ------------------------------------------------------------------------


def search(context: Context) -> SearchResult:
    """Search for points, choose one, and compare it with the control.

    Raises:
        WeightsDivergedError: the loss is not finite.
        InputError: a checkpoint is damaged or of another search.
    """
    graph = load_graph(context)
    table = costs.load_table(context, graph, new_controller(context, graph))
    method = _arm(context, table, "method")
    control = _arm(context, table, "control") if context.search.control else None
    run_pair(
        method.run,
        lambda: None if control is None else control.run(),
        at_once=uses_one_thread(context.splits.train, context.options.weights),
    )
    points, correct = comparison.tune_points(context, method.points, method.graph)
    chosen = search_points.choose(
        points,
        tolerance=context.options.accuracy.tolerance,
        target=context.latency.target_ms if table.unit == "ms" else None,
    )
    if context.weights is not None:
        export_points(context.state, context.weights, points, chosen, table)
    children = tuple(comparison.child_of(context, graph, point) for point in points)
    static, other = None, None
    if control is not None:
        static = comparison.tune_static(context, control.graph, table, chosen.point)
    if control is not None and static is not None:
        other = Arm("random-ws", (comparison.static_child(context, static),), control.seconds)
        context.callbacks.on_child("control", other.children[0])
    verdict = None
    if not context.callbacks.should_stop():
        is_correct_N = correct[chosen.point.number]
        verdict = comparison.verdict(context, chosen.point, is_correct_N, static, table)
    return SearchResult(
        method=context.method,
        seed=context.seeds.seed,
        genotype=children[chosen.point.number].genotype,
        valid_accuracy=chosen.point.accuracy,
        arm=Arm(context.method, children, method.seconds),
        control=other,
        verdict=verdict,
        cost_metric="latency_ms" if table.unit == "ms" else "macs",
        pareto=pareto_front(children),
        versions=versions(),
    )


def _arm(context: Context, table: LatencyTable, name: str) -> AlternatingTrainer:
    """Return the arm `method`, or `control`, which has no controller."""
    graph, controller = load_graph(context), None
    if name == "method":
        controller = new_controller(context, graph).to(device_of(context.training))
    return AlternatingTrainer(
        context, name, graph, controller, table, prior_cost_s=seconds_of(context.controller)
    )


# --- stage 3: the meta-graph alone --------------------------------------------------------------


def train_final(context: Context, result: SearchResult) -> FinalModel:
    """Train the chosen point further with the policy frozen; evaluate it once on the test split.

    Raises:
        InputError: the weights of the search do not exist.
    """
    selected = SelectedPoint.read(context.weights)
    network = comparison.network_of(context, selected.folder, selected.chosen)
    final = train_network(context, network, result.genotype)
    details, macs = describe(network, context.splits, selected.described, context.seeds)
    if context.options.baseline:
        latency = selected.described["table"]["baseline"]
        with contextlib.suppress(TrainingStopped):  # then the model has no baseline to compare with
            baseline = train_baseline(context, selected.chosen, latency=latency)
            details["baseline"] = baseline.to_dict()
    return dataclasses.replace(final, macs=macs, details={"instanas": details})
