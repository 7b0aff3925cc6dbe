"""The predictor of cells, on a made-up objective of which the truth is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from nascore.methods.auto_meta.predictor import CellPredictor, PredictorSettings, standardised
from nascore.seeding import Seeds
from nascore.spaces.blocks import Cell
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.spaces.fewshot.space import FewShotCellSpace, depth

SPACE = FewShotCellSpace(FewShotCellSpaceConfig())
ONE_BLOCK = list(SPACE.one_block_cells())
VALUE_OF_OPERATION = np.array([0.9, 0.8, 0.5, 0.3, 0.2, 0.0])


def truth(cell: Cell) -> float:
    """Better operations, newer inputs and deeper cells are better."""
    halves = [half for block in cell for half in block]
    operations = np.mean([VALUE_OF_OPERATION[op] for _, op in halves])
    newer = np.mean([node / (1 + len(cell)) for node, _ in halves])
    return float(0.3 + 0.3 * operations + 0.1 * newer + 0.05 * depth(cell))


def grown(cells: list[Cell], number: int, rng: np.random.Generator) -> list[Cell]:
    """Random cells of one block more."""
    parents = rng.integers(len(cells), size=number)
    chosen = []
    for parent in parents:
        bigger = list(SPACE.expansions(cells[parent]))
        chosen.append(bigger[rng.integers(len(bigger))])
    return chosen


def measured(cells: list[Cell], rng: np.random.Generator) -> list[float]:
    return [truth(cell) + 0.02 * rng.standard_normal() for cell in cells]


def fitted(cells: list[Cell], accuracies: list[float], *, seed: int = 0) -> CellPredictor:
    predictor = CellPredictor(5, 6, seeds=Seeds(seed))
    predictor.fit(cells, accuracies)
    return predictor


@pytest.mark.parametrize("seed", range(5))
def test_ranks_unseen_cells_and_finds_good_larger_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    two_blocks = grown(ONE_BLOCK, 100, rng)
    known = ONE_BLOCK + two_blocks[:40]
    predictor = fitted(known, measured(known, rng), seed=seed)
    unseen = two_blocks[40:]
    ranks = spearmanr(predictor.predict(unseen), [truth(cell) for cell in unseen])
    assert ranks.statistic > 0.3
    three_blocks = grown(two_blocks, 300, rng)
    order = np.argsort(-predictor.predict(three_blocks))
    best = [truth(three_blocks[i]) for i in order[:8]]
    values = [truth(cell) for cell in three_blocks]
    assert np.mean(best) > np.mean(values) + np.std(values)


def test_reads_cells_of_any_length_and_any_order() -> None:
    rng = np.random.default_rng(0)
    predictor = fitted(ONE_BLOCK, measured(ONE_BLOCK, rng))
    cells, mixed = ONE_BLOCK[:3], []
    for _ in range(5):
        mixed += cells
        cells = grown(cells, 3, rng) if len(cells[0]) < 5 else cells
    values = predictor.predict(mixed)
    assert values.shape == (15,)
    assert ((values > 0) & (values < 1)).all()
    assert len(set(values.tolist())) == 15
    alone = [float(predictor.predict([cell])[0]) for cell in mixed]
    np.testing.assert_allclose(values, alone, atol=1e-6)
    swapped = [tuple((right, left) for left, right in cell) for cell in mixed]
    np.testing.assert_array_equal(predictor.predict(swapped), values)


def test_a_fit_follows_data_and_seed() -> None:
    accuracies = measured(ONE_BLOCK, np.random.default_rng(0))
    first, again, other = (
        fitted(ONE_BLOCK, accuracies, seed=seed).predict(ONE_BLOCK) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_targets_are_standardised_per_stage() -> None:
    """Accuracies between 0.30 and 0.32 use the whole range; stages do not mix."""
    cells = ONE_BLOCK[:3] + grown(ONE_BLOCK, 4, np.random.default_rng(0))
    targets = standardised(cells, [0.30, 0.31, 0.32, 0.8, 0.8, 0.8, 0.8])
    scaled = np.log(targets / (1 - targets))
    np.testing.assert_allclose(scaled, [-(1.5**0.5), 0, 1.5**0.5, 0, 0, 0, 0], atol=1e-9)


def test_too_little_data_is_refused() -> None:
    predictor = CellPredictor(5, 6, seeds=Seeds(0), settings=PredictorSettings(num_members=3))
    with pytest.raises(ValueError, match="fit the predictor"):
        predictor.predict(ONE_BLOCK)
    with pytest.raises(ValueError, match="3 predictors need"):
        predictor.fit(ONE_BLOCK[:2], [0.1, 0.2])
