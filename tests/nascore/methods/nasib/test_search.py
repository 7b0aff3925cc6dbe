"""The search within a budget: training, schedules, and a planted pattern."""

import math
import statistics
from pathlib import Path
from typing import Any

import planted_kernel
import pytest
import torch
from nasib_tasks import SPACE, make_task, num_alive, run
from torch import Tensor, nn

from nascore.config import BudgetConfig, CommonTrainingConfig, DataConfig
from nascore.data.batches import Splits, load
from nascore.data.prepared import prepare
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.nasib.search import BudgetSearch
from nascore.methods.nasib.supernet import SuperkernelSupernet
from nascore.methods.nasib.updates import LogitUpdates
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace

# --- what the budget does ---------------------------------------------------------------------


def test_the_distribution_is_uniform_at_first_and_sure_at_the_end(
    tmp_path: Path, digits: Splits
) -> None:
    """Property 6, of what the search reports of itself while it runs."""
    search = run(tmp_path, digits, budget=BudgetConfig(steps=60))
    first, last = search.history.rows[0], search.history.rows[-1]
    assert (first["u"], last["u"]) == (0.0, 1.0)
    for axis, size in zip(AXES, SuperkernelSpace(SPACE).axis_sizes, strict=True):
        assert first["entropy"][axis] == pytest.approx(math.log(size), abs=1e-3)
        assert last["entropy"][axis] < 0.1
    assert last["candidates"] == 1.0


def test_the_warm_up_leaves_the_distribution_as_it_was(tmp_path: Path, digits: Splits) -> None:
    search = BudgetSearch(make_task(tmp_path, digits))
    search.run(until=0.1)
    assert search.step == 2
    assert not search.distribution.logits_ES.any()
    search.run()
    assert search.distribution.logits_ES.any()


def test_weights_and_distribution_see_different_images(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {"weights": [], "logits": []}
    count = {"weights": WeightUpdates, "logits": LogitUpdates}
    for name, updates in count.items():

        def step(its: Any, *given: Any, name: str = name, **more: Any) -> Tensor:
            seen[name].append(given[-2])
            return torch.zeros(())

        monkeypatch.setattr(updates, "step", step)
    run(tmp_path, digits, training=CommonTrainingConfig(crop_padding=0))
    sets = [{x.numpy().tobytes() for x in torch.cat(seen[name])} for name in seen]
    assert min(map(len, sets)) > 100
    repeated = len(sets[0] & sets[1])
    assert repeated <= 2, "two digits may be the same to the pixel"


def test_values_are_dropped_at_the_milestones_and_not_before(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: dict[int, dict[str, list[int]]] = {}
    real = BudgetSearch._train

    def train(self: BudgetSearch, *more: Any) -> None:
        alive[self.step] = num_alive(self.distribution)
        return real(self, *more)

    monkeypatch.setattr(BudgetSearch, "_train", train)
    search = run(tmp_path, digits, budget=BudgetConfig(steps=40))
    for axis, size in zip(AXES, SuperkernelSpace(SPACE).axis_sizes, strict=True):
        for step, left in alive.items():
            assert set(left[axis]) == {search.schedule.num_left(step / 40, size)}
        assert set(num_alive(search.distribution)[axis]) == {1}


def test_half_a_budget_shifts_to_exploitation(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 5 through the real loop: T = 400 and 200, both between T_min and T_max.

    The gradient is planted, since what it is does not matter here: the first value of every axis
    is always the better one."""
    monkeypatch.setattr(WeightUpdates, "step", lambda *given, **more: torch.zeros(()))
    monkeypatch.setattr(LogitUpdates, "step", planted_step)
    found = {}
    for steps in (200, 400):
        distinct = watch_samples(monkeypatch)
        search = run(tmp_path / str(steps), digits, budget=BudgetConfig(steps=steps))
        rows = search.history.rows
        found[steps] = {
            "exploring": statistics.fmean(row["exploration"] > 0 for row in rows),
            "entropy": statistics.fmean(statistics.fmean(row["entropy"].values()) for row in rows),
            "distinct": statistics.fmean(distinct),
        }
    for name in ("exploring", "entropy", "distinct"):
        assert found[200][name] < found[400][name], name


def planted_step(self: LogitUpdates, *given: Any, lr: float, **more: Any) -> None:
    start = 0
    with torch.no_grad():
        for log_p in self.distribution.log_probs().values():
            self.distribution.logits_ES[:, start] += lr
            start += log_p.shape[1]


def watch_samples(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """At twenty places in the budget, of twenty samples of the distribution as it is then, the
    share of different architectures, whatever tokens without a meaning say."""
    found: list[float] = []
    train = BudgetSearch._train

    def watched(self: BudgetSearch, weights: Any, logits: Any, u: float) -> None:
        if self.step % (int(self.context.search.budget.amount) // 20) == 0:
            drawn = set()
            for number in range(20):
                noise = self._noise("looks", 20 * self.step + number, u)
                tokens_EA = self.distribution.sample(*noise, temperature=1.0).tokens_EA
                drawn.add(str(self._weights.supernet.cells(tokens_EA)))
            found.append(len(drawn) / 20)
        train(self, weights, logits, u)

    monkeypatch.setattr(BudgetSearch, "_train", watched)
    monkeypatch.setattr(SuperkernelSupernet, "path", lambda *given: nn.Identity())
    return found


# --- a planted pattern ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("planted")
    planted_kernel.write(folder / "p.npz", num_test=100)
    prepare(DataConfig(source=f"npz:{folder / 'p.npz'}"), seed=0, folder=folder / "data")
    return load(folder / "data", torch.device("cpu"))


@pytest.mark.slow
def test_a_long_budget_finds_the_planted_kernel_oftener_than_a_short_one_and_than_chance(
    tmp_path: Path, planted: Splits
) -> None:
    """Property 7, five seeds; both edges of the cell read the image, so there are ten choices."""
    shares, sizes = {}, planted_kernel.SPACE.kernel_sizes
    for steps in (60, 350):
        heights: list[int] = []
        for seed in range(5):
            search = run(
                tmp_path / f"{steps}-{seed}",
                planted,
                space=planted_kernel.SPACE,
                seed=seed,
                budget=BudgetConfig(steps=steps),
                training=CommonTrainingConfig(crop_padding=0),
            )
            heights += search.distribution.best()[:, AXES.index("height")].tolist()
        shares[steps] = statistics.fmean(
            sizes[height] == planted_kernel.HEIGHT for height in heights
        )
    assert shares[350] > shares[60]
    assert shares[350] >= 0.7 > 1 / 4, "uniform finds it in a quarter of the cases"
