"""Auto-Meta (arXiv 1806.06927): a progressive search for networks that learn from few examples.

Cells grow block by block. All cells of one block are evaluated; then these are extended by every
possible block, a predictor trained on all shorter cells ranks the extensions, and only the best few
and some random ones are evaluated and extended in turn (PNAS, arXiv 1712.00559). A cell is
evaluated by brief meta-training (Reptile) and its accuracy on tasks of classes on which no network
was trained. The winner is meta-trained at length, together with the four convolutions of MAML with
at least as many weights, and both are tested on tasks of test classes.

The code of the paper was not published. Our choices: operations, number of cells and K
(`nascore.spaces.fewshot.space`, `ProgressiveOptions`), the random cells of each stage, Reptile
inside the search, no pre-training: one-block cells are children of the study like all others, so
that budget, control and resumption apply to them.

The random control searches the same space; its children are trained and evaluated in the same way,
on the same tasks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nascore.context import SearchContext
from nascore.data.episodes import FewShotData
from nascore.errors import InputError, Problem, collect_problems
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
from nascore.methods.common.fixed_proposer import FixedProposer
from nascore.results import Child, SearchResult
from nascore.search.proposer import Proposer
from nascore.search.runner import search_against_random
from nascore.seeding import Seeds
from nascore.spaces.base import SearchSpace
from nascore.spaces.blocks import Cell
from nascore.spaces.fewshot.space import PUBLISHED, depth, width
from nascore.training.final_model import FinalModel

Context = SearchContext[AutoMetaOptions]

# --- before the search --------------------------------------------------------------------------


def prepare_proposer(
    options: AutoMetaOptions, space: SearchSpace, seeds: Seeds, controller: Path
) -> dict[str, float]:
    """Return no metrics: the predictor learns from children alone.

    Raises:
        InputError: the space has no cells that grow by blocks.
    """
    _check_cell(options, space)
    return {}


def pretrain(context: Context) -> dict[str, float]:
    """Check data and settings before anything is trained.

    Raises:
        InputError: something does not fit; it lists all problems.
    """
    problems: list[Problem] = []
    if context.search.pruner != "none":
        message = "children are evaluated once, at the end, so there is nothing to prune; use none"
        problems.append(Problem("search.pruner", context.search.pruner, message))
    with collect_problems(problems):
        _check_cell(context.options, context.space)
    with collect_problems(problems):
        FewShotTraining(FewShotData(context.splits), context.options)
    if problems:
        raise InputError(problems)
    return {}


def _check_cell(options: AutoMetaOptions, space: SearchSpace) -> None:
    """Raise InputError where the space lacks cells, or the published cell if it is asked for."""
    cells = cells_of(space)
    if options.cell == "published" and not cells.has(PUBLISHED):
        raise InputError.of(
            "search.options.cell",
            options.cell,
            "needs search.space.max_blocks of 5 or more, and conv_3x3, conv_1x5_5x1 and "
            "max_pool_3x3 among search.space.operations",
        )


# --- the search -----------------------------------------------------------------------------------


def make_proposer(
    options: AutoMetaOptions, space: SearchSpace, seeds: Seeds, stream: str, *, controller: Path
) -> Proposer:
    """Make the progressive search, or the published cell alone; `controller` is not read.

    Raises:
        InputError: the space has no cells that grow by blocks, or not the published one.
    """
    return _proposer(options, space, seeds, stream)


def _proposer(
    options: AutoMetaOptions,
    space: SearchSpace,
    seeds: Seeds,
    stream: str,
    on_stage: OnStage = ignore_stage,
) -> Proposer:
    if options.cell == "search":
        return _progressive(options, space, seeds, stream, on_stage)
    _check_cell(options, space)
    return FixedProposer(cells_of(space).genotype(PUBLISHED))


def _progressive(
    options: AutoMetaOptions,
    space: SearchSpace,
    seeds: Seeds,
    stream: str,
    on_stage: OnStage = ignore_stage,
) -> Progressive:
    given = options.progressive
    settings = ProgressiveSettings(
        num_first_stage=given.num_first_stage,
        top_k=given.top_k,
        num_random=given.num_random,
        predictor=PredictorSettings(num_members=given.num_predictors),
    )
    return Progressive(settings, cells_of(space), seeds, stream, on_stage=on_stage)


def search(context: Context) -> SearchResult:
    """Grow cells, with a random search at equal cost; no task of test classes is drawn.

    Raises:
        InputError: see `pretrain`.
    """

    def on_stage(stage: int, correlation: float) -> None:
        context.callbacks.on_metrics({"search/rank_correlation": correlation}, stage)

    proposer = _proposer(context.options, context.space, context.seeds, "method", on_stage)
    training = FewShotTraining(FewShotData(context.splits), context.options)
    result = search_against_random(context, proposer, training=training)
    _report_end(context, result)
    return result


def _report_end(context: Context, result: SearchResult) -> None:
    for stage in stages(context, result.arm.children):
        if stage["rank_correlation"] is not None:
            context.callbacks.on_metrics(
                {"search/rank_correlation": stage["rank_correlation"]}, stage["blocks"]
            )
    cell: Cell = cells_of(context.space).cell(result.genotype)
    context.callbacks.on_metrics({"search/depth": depth(cell), "search/width": width(cell)}, 0)


def stages(context: Context, children: Sequence[Child]) -> list[Mapping[str, Any]]:
    """Return the figures of each stage: children, accuracies, rank correlation of the predictor."""
    proposer = _progressive(context.options, context.space, context.seeds, "method")
    by_blocks: dict[int, list[float]] = {}
    for child in children:
        proposer.update(child)
        if child.valid_accuracy is not None:
            size = len(cells_of(context.space).cell(child.genotype))
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


def train_final(context: Context, result: SearchResult) -> FinalModel:
    """Meta-train the winner and the baseline at length, and test both."""
    return meta_train_final(context, result.genotype, stages=stages(context, result.arm.children))
