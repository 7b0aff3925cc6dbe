"""Progressive search: cells grow by one block per stage; a predictor ranks the candidates.

Stage 1 trains the cells of one block. Each later stage extends all finished cells of the previous
stage by every possible block, ranks them by the predictor, and trains the best `top_k` and
`num_random` random others. Source: PNAS (arXiv 1712.00559), algorithm 1; the random cells are our
addition: they show what the predictor would miss.

The next proposal follows from the children alone: the stage is the first that is not full, and its
ranking comes from a predictor fitted to all finished shorter cells, so a search resumes exactly.
With several workers a new stage starts while the last cells of the previous one are in training;
they count as soon as they end.
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
    """Number of cells in each stage.

    Attributes:
        num_first_stage: random cells of one block; all when None.
        top_k: best cells of each later stage, by the predictor.
        num_random: further random cells of each later stage.
    """

    num_first_stage: int | None = None
    top_k: int = 8
    num_random: int = 1
    predictor: PredictorSettings = field(default_factory=PredictorSettings)

    def __post_init__(self) -> None:
        first = 1 if self.num_first_stage is None else self.num_first_stage
        if min(first, self.top_k) < 1 or self.num_random < 0:
            raise ValueError(
                f"num_first_stage and top_k must be at least 1, num_random at least 0, got {self}"
            )


OnStage = Callable[[int, float], None]
"""Called with a stage and the rank correlation of its predictions."""


def ignore_stage(stage: int, correlation: float) -> None:
    """Do nothing."""


def cells_of(space: SearchSpace) -> FewShotCellSpace:
    """Return the space of cells whose token strings are those of a space.

    A space of which only the numbers of values are known, such as the parameters of an Optuna
    study, is recognised by these numbers.

    Raises:
        InputError: the token strings are not cells that grow by blocks.
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
    """`Proposer` over `FewShotCellSpace`; once all stages are full, it extends the last one."""

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
            on_stage: called before the predictor is fitted to a ranked stage, and again when late
                children of that stage have been added.
        """
        self._on_stage = on_stage
        self._settings, self._space, self._seeds, self._stream = settings, space, seeds, stream
        first = space.one_block_cells()
        num_first = min(settings.num_first_stage or len(first), len(first))
        later = settings.top_k + settings.num_random
        self._sizes = [num_first, *[later] * (space.config.max_blocks - 1)]
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
                is_random = self._settings.top_k <= num_taken < size
                for cell in self._order(stage, is_random=is_random):
                    if self._space.key(cell) not in seen:
                        return self._space.genotype(cell)
        # All extensions were proposed, or no cell has finished that could be extended.
        return base.sample(self._space, self._seeds.numpy(self._stream, "suggest", number))

    def rank_correlation(self, stage: int) -> float | None:
        """Return Spearman's correlation of a stage's results with predictions from before it.

        None with fewer than three cells, without a predictor, or where all values are equal.
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
        """Yield finished cells by number of the child, so that the order of ends has no effect."""
        for number in sorted(self._ended):
            cell, value = self._ended[number]
            if value is not None:
                yield cell, value

    def _order(self, stage: int, *, is_random: bool) -> list[Cell]:
        """Return the cells that a stage may train, in the order of proposals."""
        rng = self._seeds.numpy(self._stream, "order", stage)
        if stage == 1:
            cells = list(self._space.one_block_cells())
            return [cells[i] for i in rng.permutation(len(cells))]
        ranking = self._ranked(stage)
        if not is_random:
            return ranking
        return [ranking[i] for i in rng.permutation(len(ranking))]

    def _ranked(self, stage: int) -> list[Cell]:
        """Return the extensions of finished cells of the previous stage, best predicted first."""
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
        """Return a predictor fitted to all shorter cells; None with fewer cells than members."""
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
