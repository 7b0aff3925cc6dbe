"""Auto-Meta (arXiv 1806.06927): a progressive search for networks that learn from few examples.

Cells grow block by block. Of one block all are judged; then the cells that were judged are extended
by every possible block, a predictor that has read all shorter cells ranks the extensions, and only
the best few of them, and some at random, are judged and grow in turn (PNAS, arXiv 1712.00559). A
cell is judged by brief meta-training (Reptile), then by how well it learns tasks of classes that
nobody has trained on. The winner is meta-trained at length, beside the four convolutions of MAML
with no fewer weights, and both are tested on tasks of test classes.

There is no code of the paper, and little of it could be had. Choices of ours: operations, number of
cells and K (`nascore.spaces.fewshot.space`, `ProgressiveOptions`), the random quota, Reptile inside
the search, no pre-training: one-block cells are children of the study like all others, so that
budget, control and resumption hold for them.

The random control searches the same space, and its children are meta-trained and judged in the same
way, by the same tasks.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nascore.config import Section
from nascore.context import SearchContext, device_of
from nascore.data.episodes import FewShotData
from nascore.errors import CheckpointError, InputError, Problem, collect_problems
from nascore.genotype import Genotype
from nascore.meta_learning.engine import ExecutionMode, TaskEngine
from nascore.meta_learning.training import JUDGE, TRAIN, measured_ways
from nascore.methods.auto_meta.child import FewShotTraining
from nascore.methods.auto_meta.final_comparison import meta_train_final
from nascore.methods.auto_meta.options import AutoMetaOptions
from nascore.methods.auto_meta.predictor import PredictorSettings
from nascore.methods.auto_meta.progressive import (
    OnStage,
    Progressive,
    ProgressiveSettings,
    cells_of,
    ignore_stage,
)
from nascore.results import Child, SearchResult
from nascore.search.proposer import NONE_PENDING, Pending, Proposer
from nascore.search.random_search import RandomSearch
from nascore.search.runner import Control, search_by_proposing
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.spaces.blocks import Cell
from nascore.spaces.fewshot.space import PUBLISHED, depth, width
from nascore.training.child import build_network
from nascore.training.final_model import FinalModel
from nascore.training.threads import threads_of

VERSION = 1
_CARD = "controller.json"


def _options(task: SearchContext) -> AutoMetaOptions:
    assert isinstance(task.options, AutoMetaOptions)
    return task.options


# --- before the search --------------------------------------------------------------------------


def prepare_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Nothing to learn beforehand: the predictor learns from children.

    Raises:
        InputError: the space has no cells that grow by blocks.
    """
    assert isinstance(options, AutoMetaOptions)
    _first_cell(options, space)
    return {}


def pretrain(task: SearchContext) -> dict[str, float]:
    """Checks data and settings, and finds out how tasks are run faster on this machine.

    Raises:
        InputError: everything that does not fit, before anything is trained.
    """
    options = _options(task)
    training, cell = _checked(task)
    seconds: dict[str, dict[ExecutionMode, float]] = {}
    if options.tasks_at_once == "measure":
        seconds = _measured(task, training, cell)
        ways = {kind: _faster(measured) for kind, measured in seconds.items()}
    else:
        ways = dict.fromkeys((TRAIN, JUDGE), options.tasks_at_once)
    _write_card(task, ways, seconds)
    return {
        f"{kind}_{way}_seconds": value
        for kind, measured in seconds.items()
        for way, value in measured.items()
    }


def _checked(task: SearchContext) -> tuple[FewShotTraining, Cell]:
    options = _options(task)
    problems: list[Problem] = []
    if task.search.pruner != "none":
        message = (
            "children are judged once, at the end; there is nothing to prune by; set it to none"
        )
        problems.append(Problem("search.pruner", task.search.pruner, message))
    with collect_problems(problems):
        cell = _first_cell(options, task.space)
    with collect_problems(problems):
        data = FewShotData.of(task.splits)
        training = FewShotTraining(data, options, make_engine=TaskEngine)
    if problems:
        raise InputError(problems)
    return training, cell


def _measured(
    task: SearchContext, training: FewShotTraining, cell: Cell
) -> dict[str, dict[ExecutionMode, float]]:
    """Seconds of each kind of work with the network of a cell, by the way in which it is run."""
    device = device_of(task.training)
    genotype = cells_of(task.space).genotype(cell)
    network = build_network(task.space, genotype, task.shape, seed=0).to(device)
    with threads_of(one=training.uses_one_thread(task)):
        return measured_ways(
            network,
            training.train_tasks,
            training.valid_tasks,
            _options(task).meta,
            task.seeds.torch("measuring", device=device),
        )


def _faster(seconds: dict[ExecutionMode, float]) -> ExecutionMode:
    return min(seconds, key=lambda way: seconds[way])


def _first_cell(options: AutoMetaOptions, space: SearchSpace) -> Cell:
    """The published cell where it is asked for, else any of one block.

    Raises:
        InputError: the space does not have it.
    """
    cells = cells_of(space)
    if options.cell == "search":
        return cells.one_block_cells()[0]
    if not cells.has(PUBLISHED):
        raise InputError.of(
            "search.options.cell",
            options.cell,
            "needs search.space.max_blocks of 5 or more, and conv_3x3, conv_1x5_5x1 and "
            "max_pool_3x3 among search.space.operations",
        )
    return PUBLISHED


def _write_card(
    task: SearchContext,
    ways: dict[str, ExecutionMode],
    seconds: dict[str, dict[ExecutionMode, float]],
) -> None:
    task.controller.mkdir(parents=True, exist_ok=True)
    card = {
        "version": VERSION,
        "method": task.method,
        "space": task.space.identifier,
        "ways": ways,
        "seconds": seconds,
    }
    (task.controller / _CARD).write_text(json.dumps(card, indent=2))


def _ways(task: SearchContext) -> dict[str, ExecutionMode]:
    """How tasks are run, as `pretrain` found it."""
    path = task.controller / _CARD
    try:
        ways: dict[str, ExecutionMode] = json.loads(path.read_text())["ways"]
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there; run the step pretrain_controller") from error
    return ways


# --- the search -----------------------------------------------------------------------------------


class FixedProposer:
    """`Proposer` of one cell, whatever comes of it."""

    def __init__(self, genotype: Genotype) -> None:
        self._genotype = genotype

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        return self._genotype

    def update(self, child: Child) -> None:
        """There is nothing to choose."""


def make_proposer(
    options: Section, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """The progressive search, or the published cell alone; `controller` is not read.

    Raises:
        InputError: the space has no cells that grow by blocks, or not the published one.
    """
    assert isinstance(options, AutoMetaOptions)
    if options.cell == "published":
        return FixedProposer(cells_of(space).genotype(_first_cell(options, space)))
    return _progressive(options, space, seeds, stream)


def _progressive(
    options: AutoMetaOptions,
    space: SearchSpace,
    seeds: Seeds,
    stream: str,
    on_stage: OnStage = ignore_stage,
) -> Progressive:
    given = options.progressive
    settings = ProgressiveSettings(
        first=given.first,
        top=given.top,
        quota=given.quota,
        predictor=PredictorSettings(num_members=given.ensemble),
    )
    return Progressive(settings, cells_of(space), seeds, stream, on_stage=on_stage)


def search(task: SearchContext) -> SearchResult:
    """Cells that grow, beside a random search at equal cost; test classes are never asked for.

    Raises:
        InputError: see `pretrain`.
    """
    options = _options(task)
    proposer = make_proposer(options, task.space, task.seeds, "method", controller=task.controller)
    if isinstance(proposer, Progressive):
        proposer = _progressive(options, task.space, task.seeds, "method", _stage_reporter(task))
    control = None
    if task.search.control:
        control = Control(RandomSearch(task.space, task.seeds, "control"))
    training = FewShotTraining(
        FewShotData.of(task.splits), options, make_engine=partial(TaskEngine, ways=_ways(task))
    )
    result = search_by_proposing(task, proposer, control, training=training)
    _report_end(task, result)
    return result


def _stage_reporter(task: SearchContext) -> OnStage:
    def on_stage(stage: int, correlation: float) -> None:
        task.callbacks.on_metrics({"search/rank_correlation": correlation}, stage)

    return on_stage


def _report_end(task: SearchContext, result: SearchResult) -> None:
    cell = cells_of(task.space).cell(result.genotype)
    for stage in stages(task, result.arm.children):
        if stage["rank_correlation"] is not None:
            task.callbacks.on_metrics(
                {"search/rank_correlation": stage["rank_correlation"]}, stage["blocks"]
            )
    task.callbacks.on_metrics({"search/depth": depth(cell), "search/width": width(cell)}, 0)


def stages(task: SearchContext, children: Sequence[Child]) -> list[dict[str, Any]]:
    """What each stage has trained, and how well it was told beforehand which cells are good."""
    proposer = _progressive(_options(task), task.space, task.seeds, "method")
    by_blocks: dict[int, list[float]] = {}
    for child in children:
        proposer.update(child)
        if child.valid_accuracy is not None:
            size = len(cells_of(task.space).cell(child.genotype))
            by_blocks.setdefault(size, []).append(child.valid_accuracy)
    return [
        {
            "blocks": size,
            "trained": len(values),
            "mean": sum(values) / len(values),
            "best": max(values),
            "rank_correlation": proposer.rank_correlation(size),
        }
        for size, values in sorted(by_blocks.items())
    ]


# --- the winner -----------------------------------------------------------------------------------


def train_final(task: SearchContext, result: SearchResult) -> FinalModel:
    """Full meta-training of the winner and of four convolutions, and the test of both."""
    return meta_train_final(
        task, _options(task), result.genotype, stages=stages(task, result.arm.children)
    )
