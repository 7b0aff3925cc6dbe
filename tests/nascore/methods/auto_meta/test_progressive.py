"""The progressive search: how cells grow, how many are trained, and that it can go on again."""

import numpy as np
import pytest
from children import make_child

from nascore.genotype import Genotype
from nascore.methods.auto_meta.predictor import PredictorSettings
from nascore.methods.auto_meta.progressive import Progressive, ProgressiveSettings
from nascore.results import Child
from nascore.seeding import Seeds
from nascore.spaces.fewshot.config import FewShotCellSpaceConfig
from nascore.spaces.fewshot.space import FewShotCellSpace

SPACE = FewShotCellSpace(FewShotCellSpaceConfig(max_blocks=3))
QUICK = PredictorSettings(num_members=2, num_steps=30)
SETTINGS = ProgressiveSettings(num_first_stage=20, top_k=4, num_random=2, predictor=QUICK)
VALUE_OF_OPERATION = (0.9, 0.8, 0.5, 0.3, 0.2, 0.0)


def make(settings: ProgressiveSettings = SETTINGS) -> Progressive:
    return Progressive(settings, SPACE, Seeds(0), "method")


def ended(number: int, genotype: Genotype, *, fails: bool = False) -> Child:
    halves = [half for block in SPACE.cell(genotype) for half in block]
    accuracy = float(np.mean([VALUE_OF_OPERATION[op] for _, op in halves]))
    return make_child(number, genotype, None if fails else accuracy)


def run(proposer: Progressive, number: int) -> list[Child]:
    children = []
    for i in range(number):
        children.append(ended(i, proposer.suggest(i)))
        proposer.update(children[-1])
    return children


def test_stages_grow_by_one_block_and_are_no_larger_than_planned() -> None:
    proposer = make()
    assert sum(proposer._sizes) == 20 + 2 * (4 + 2)
    children = run(proposer, sum(proposer._sizes))
    cells = [SPACE.cell(child.genotype) for child in children]
    assert [len(cell) for cell in cells] == [1] * 20 + [2] * 6 + [3] * 6
    assert len({SPACE.key(cell) for cell in cells}) == len(cells)
    for cell in cells[20:]:
        assert cell[:-1] in cells, "extends one that was trained"
    values = [child.valid_accuracy or 0.0 for child in children]
    assert np.mean(values[20:24]) > np.mean(values[:20]) + 0.1, "the predictor has chosen"
    assert proposer.rank_correlation(1) is None
    assert -1 <= (proposer.rank_correlation(2) or 9) <= 1


def test_the_first_stage_is_all_of_one_block() -> None:
    whole = make(ProgressiveSettings(predictor=QUICK))
    assert sum(whole._sizes) == 78 + 2 * 9
    keys = {SPACE.canonical(child.genotype) for child in run(whole, 78)}
    assert keys == {SPACE.key(cell) for cell in SPACE.one_block_cells()}


def test_a_stage_is_told_of_before_the_next_one_is_ranked() -> None:
    told: list[tuple[int, float, int]] = []
    proposer = Progressive(
        SETTINGS,
        SPACE,
        Seeds(0),
        "method",
        on_stage=lambda stage, value: told.append((stage, value, len(proposer._ended))),
    )
    run(proposer, sum(proposer._sizes))
    assert [(stage, known) for stage, _, known in told] == [(2, 26)], "before any of three blocks"
    assert told[0][1] == proposer.rank_correlation(2)


def test_another_with_the_same_history_proposes_the_same() -> None:
    proposer = make()
    children = run(proposer, 28)
    for stop in (7, 20, 23, 28):
        again = make()
        for child in children[:stop]:
            again.update(child)
        expected = children[stop].genotype if stop < 28 else proposer.suggest(28)
        assert again.suggest(stop) == expected


def test_cells_that_are_being_trained_count_and_failed_ones_do_not_grow() -> None:
    proposer = make()
    for i in range(19):
        proposer.update(ended(i, proposer.suggest(i), fails=i % 2 == 0))
    pending = {19: proposer.suggest(19)}
    ahead = proposer.suggest(20, pending)
    cell = SPACE.cell(ahead)
    assert len(cell) == 2
    failed = {c for c, value in proposer._ended.values() if value is None}
    assert len(failed) == 10
    assert cell[:-1] not in failed | {SPACE.cell(pending[19])}


def test_without_any_survivor_it_goes_on_at_random() -> None:
    proposer = make()
    for i in range(20):
        proposer.update(ended(i, proposer.suggest(i), fails=True))
    assert proposer.suggest(20) == proposer.suggest(20)


def test_empty_stages_are_refused() -> None:
    for wrong in ({"top_k": 0}, {"num_first_stage": 0}, {"num_random": -1}):
        with pytest.raises(ValueError, match="must be at least"):
            ProgressiveSettings(**wrong)
