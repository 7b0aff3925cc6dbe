"""Progressive search: cells grow by one block a stage, and a predictor says which are trained.

Stage 1 trains the cells of one block. Every later stage extends all finished cells of the one
before by every possible block, has the predictor rank them, and trains the best `top`, and `quota`
random others of them. Source: PNAS (arXiv 1712.00559), algorithm 1; the random quota is a choice of
ours.

What comes next follows from the children alone: the stage is the first that is not full, and its
ranking comes from a predictor fitted on all shorter cells that have ended. So a search is resumed
exactly. With several workers a new stage starts while the last cells of the one before are being
trained; they count as soon as they end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from scipy.stats import spearmanr

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.methods.auto_meta.predictor import CellPredictor, PredictorSettings
from nascore.results import Child
from nascore.search.proposer import NONE_PENDING, Pending
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import SearchSpace
from nascore.spaces.blocks import Cell
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig, FewShotOperation
from nascore.spaces.fewshot.network import OPS
from nascore.spaces.fewshot.space import FewShotCellSpace

_MOST_BLOCKS = 8
_NAMES: tuple[FewShotOperation, ...] = get_args(FewShotOperation)


@dataclass(frozen=True, slots=True)
class ProgressiveSettings:
    """How many cells a stage trains.

    Attributes:
        first: cells of one block, at random; all when None.
        top, quota: of every later stage, by the predictor and at random.
    """

    first: int | None = None
    top: int = 8
    quota: int = 1
    predictor: PredictorSettings = field(default_factory=PredictorSettings)

    def __post_init__(self) -> None:
        if (self.first is not None and self.first < 1) or self.top < 1 or self.quota < 0:
            raise ValueError(f"first and top must be at least 1, quota at least 0, got {self}")


OnStage = Callable[[int, float], None]
"""Called with a stage and the rank correlation of what was predicted for it."""


def ignore_stage(stage: int, correlation: float) -> None:
    """Nobody is keeping it."""


def cells_of(space: SearchSpace) -> FewShotCellSpace:
    """The cells that the token strings of a space are.

    Of a space of which nothing is known but the number of values of each token, such as the
    parameters of an Optuna study, these numbers say it: those of `FewShotCellSpace`.

    Raises:
        InputError: they are no cells that grow by blocks.
    """
    if isinstance(space, FewShotCellSpace):
        return space
    sizes = space.cardinalities
    if 1 <= sizes[0] <= _MOST_BLOCKS and len(sizes) > 2 and 1 <= sizes[2] <= len(OPS):
        names = _NAMES[: sizes[2]]
        cells = FewShotCellSpace(FewShotCellSpaceConfig(max_blocks=sizes[0], operations=names))
        if cells.cardinalities == sizes:
            cells.identifier = space.identifier
            return cells
    raise InputError.of(
        "search.space",
        space.identifier,
        "has no cells that grow by blocks; use fewshot-cell, or parameters like its tokens: the "
        "number of blocks, then node, operation, node, operation of each",
    )


class Progressive:
    """`Proposer` over `FewShotCellSpace`; once the last stage is full, it goes on with it.

    Attributes:
        num_planned: children after which every stage is full.
    """

    def __init__(
        self,
        settings: ProgressiveSettings,
        space: FewShotCellSpace,
        seeds: Seeds,
        stream: str,
        *,
        on_stage: OnStage = ignore_stage,
    ) -> None:
        """
        Args:
            on_stage: called before a stage that was ranked becomes part of what the predictor of
                the next one is fitted on; again when late children have been added.
        """
        self._on_stage = on_stage
        self._settings, self._space, self._seeds, self._stream = settings, space, seeds, stream
        first = space.one_block_cells()
        num_first = len(first) if settings.first is None else min(settings.first, len(first))
        later = settings.top + settings.quota
        self._sizes = [num_first, *[later] * (space.config.max_blocks - 1)]
        self.num_planned = sum(self._sizes)
        self._ended: dict[int, tuple[Cell, float | None]] = {}
        self._ranking: tuple[tuple[int, tuple[int, ...]], list[Cell]] | None = None

    def update(self, child: Child) -> None:
        self._ended[child.number] = self._space.cell(child.genotype), child.objective

    def suggest(self, number: int, pending: Pending = NONE_PENDING) -> Genotype:
        waiting = [self._space.cell(genotype) for genotype in pending.values()]
        taken = [*(cell for cell, _ in self._ended.values()), *waiting]
        seen = {self._space.key(cell) for cell in taken}
        last = len(self._sizes)
        for stage, size in enumerate(self._sizes, start=1):
            num_taken = sum(len(cell) == stage for cell in taken)
            if num_taken < size or stage == last:
                by_chance = self._settings.top <= num_taken < size
                for cell in self._order(stage, by_chance=by_chance):
                    if self._space.key(cell) not in seen:
                        return self._space.genotype(cell)
        # All that may grow has been trained, or nothing that could grow was: whatever is left.
        return base.sample(self._space, self._seeds.numpy(self._stream, "suggest", number))

    def rank_correlation(self, stage: int) -> float | None:
        """Spearman's, of what was predicted for a stage before it was known and what came out.

        None when there were fewer than three cells, or no predictor, or nothing to rank.
        """
        known = [(cell, value) for cell, value in self._finished() if len(cell) == stage]
        predictor = self._predictor(stage)
        if predictor is None or len(known) < 3:
            return None
        predicted = predictor.predict([cell for cell, _ in known])
        values = np.array([value for _, value in known])
        if np.ptp(predicted) == 0 or np.ptp(values) == 0:
            return None
        return float(spearmanr(predicted, values).statistic)

    def _finished(self) -> Iterator[tuple[Cell, float]]:
        """In the order of the children, so that nothing depends on who ended first."""
        for number in sorted(self._ended):
            cell, value = self._ended[number]
            if value is not None:
                yield cell, value

    def _order(self, stage: int, *, by_chance: bool) -> list[Cell]:
        """The cells that a stage may train, in the order in which it does."""
        rng = self._seeds.numpy(self._stream, "order", stage)
        if stage == 1:
            cells = list(self._space.one_block_cells())
            return [cells[i] for i in rng.permutation(len(cells))]
        ranking = self._ranked(stage)
        if not by_chance:
            return ranking
        return [ranking[i] for i in rng.permutation(len(ranking))]

    def _ranked(self, stage: int) -> list[Cell]:
        """Every cell that extends a finished one of the stage before, the best predicted first."""
        known = stage, tuple(n for n, (cell, _) in sorted(self._ended.items()) if len(cell) < stage)
        if self._ranking is None or self._ranking[0] != known:
            survivors = [cell for cell, _ in self._finished() if len(cell) == stage - 1]
            grown = {
                self._space.key(cell): cell
                for survivor in survivors
                for cell in self._space.expansions(survivor)
            }
            correlation = self.rank_correlation(stage - 1)
            if correlation is not None:
                self._on_stage(stage - 1, correlation)
            cells, predictor = list(grown.values()), self._predictor(stage)
            if cells and predictor is not None:
                order = np.argsort(-predictor.predict(cells), kind="stable")
            else:  # too few to learn from
                order = self._seeds.numpy(self._stream, "unranked", stage).permutation(len(cells))
            self._ranking = known, [cells[i] for i in order]
        return self._ranking[1]

    def _predictor(self, stage: int) -> CellPredictor | None:
        """Fitted on all shorter cells; None when there are fewer than it has members."""
        known = [(cell, value) for cell, value in self._finished() if len(cell) < stage]
        if len(known) < self._settings.predictor.num_members:
            return None
        predictor = CellPredictor(
            self._space.config.max_blocks,
            len(OPS),
            seeds=self._seeds,
            settings=self._settings.predictor,
        )
        predictor.fit([cell for cell, _ in known], [value for _, value in known])
        return predictor
