"""The search within a budget: what it spends, what survives, and that it follows its budget."""

import dataclasses
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import planted_kernel
import pytest
import torch
from callbacks import CallbacksOf
from nasib_tasks import SPACE, make_task, num_alive
from torch import Tensor, nn

from nascore.config import BudgetConfig, CommonTrainingConfig, DataConfig
from nascore.data.batches import Splits, load
from nascore.data.prepared import prepare
from nascore.errors import InputError, WeightsDivergedError
from nascore.genotype import Genotype
from nascore.methods.common.one_shot_loop import checkpoint_path
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.nasib import budget_tracker
from nascore.methods.nasib.random_control import RandomControl, control_steps
from nascore.methods.nasib.search import BudgetSearch, best_so_far
from nascore.methods.nasib.supernet import SuperkernelSupernet
from nascore.methods.nasib.updates import LogitUpdates
from nascore.spaces.base import check
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace
from nascore.training import checkpoint

KILLED = Path(__file__).parents[3] / "support" / "killed_nasib.py"
# Each after the one before it.
KILLS = ["w0", "s3", "d0", "w5", "d3", "s6", "w15", "d14", "w27", "d26"]
TERMS = ["t0", "t1", "t2", "t5", "t9", "t13", "t17", "t22", "t26", "t29"]


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


def run(folder: Path, digits: Splits | Path, **more: Any) -> BudgetSearch:
    search = BudgetSearch(make_task(folder, digits, **more))
    search.run()
    return search


def kept(search: BudgetSearch) -> dict[str, Tensor]:
    """All tensors of its checkpoint."""
    path = checkpoint_path(search.context.state, search.arm)
    return checkpoint.load(path, f"nasib-{search.arm}")[0]


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# --- what is spent ----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [50, 100, 200])
def test_exactly_the_steps_of_the_budget_are_made(
    tmp_path: Path, digits: Splits, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Property 4; the updates of both optimisers are counted, nothing that the search says."""
    made = {"weights": 0, "logits": 0}
    for name, updates in (("weights", WeightUpdates), ("logits", LogitUpdates)):
        count_calls(monkeypatch, updates, made, name)
    search = run(tmp_path, digits, budget=BudgetConfig(steps=steps))
    assert made == {"weights": steps, "logits": steps - steps // 10}
    assert (search.step, search.decisions) == (made["weights"], made["logits"])
    check(search.context.space, search.genotype())


def count_calls(
    monkeypatch: pytest.MonkeyPatch, updates: type[Any], made: dict[str, int], name: str
) -> None:
    """Without their work: two hundred of them take a moment."""

    def step(self: Any, *arguments: Any, **more: Any) -> Tensor:
        made[name] += 1
        return torch.zeros(())

    monkeypatch.setattr(updates, "step", step)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_budget_below_the_warm_up_gives_an_architecture(
    tmp_path: Path, digits: Splits, steps: int
) -> None:
    search = run(tmp_path, digits, budget=BudgetConfig(steps=steps), schedule={"warmup": 0.95})
    assert (search.step, search.decisions) == (steps, 0)
    check(search.context.space, search.genotype())
    assert set(num_alive(search.distribution)["branch"]) == {1}, "as at the end of any budget"


def test_it_is_over_at_once_when_it_is_stopped_at_once(tmp_path: Path, digits: Splits) -> None:
    task = dataclasses.replace(
        make_task(tmp_path, digits), callbacks=CallbacksOf(should_stop=lambda: True)
    )
    search = BudgetSearch(task)
    search.run()
    assert search.step == 0
    check(task.space, best_so_far(task.state))


@pytest.mark.parametrize("unit", ["seconds", "gpu_hours"])
def test_no_step_ends_after_a_budget_of_time(
    tmp_path: Path, digits: Splits, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that only steps move: 0.5 s in the warm-up, 1 s after it, 40.3 s in all: nine steps
    are begun in the first tenth, and after 35 more there is no time for another one."""
    now = FakeTime()
    monkeypatch.setattr(budget_tracker, "time", now)
    monkeypatch.setattr("nascore.training.resumable.time", now)
    for updates in (WeightUpdates, LogitUpdates):
        now.takes(monkeypatch, updates, seconds=0.5)
    amount = 40.3 if unit == "seconds" else 40.3 / 3600
    search = run(tmp_path, digits, budget=BudgetConfig(**{unit: amount}))
    assert search.step == 9 + 35
    assert search.decisions == 35
    assert now.monotonic() == pytest.approx(39.5)
    assert search.clock.total_steps == 44
    assert search.schedule.exploring_share == search.options.schedule.over(44).exploring_share


def test_the_number_of_steps_is_corrected_when_the_machine_gets_slower(
    tmp_path: Path, digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = FakeTime()
    monkeypatch.setattr(budget_tracker, "time", now)
    monkeypatch.setattr("nascore.training.resumable.time", now)
    now.takes(monkeypatch, WeightUpdates, seconds=0.01)
    now.takes(monkeypatch, LogitUpdates, seconds=0.02, later=0.1, after=300)
    reported: list[float] = []
    search = run(
        tmp_path,
        digits,
        budget=BudgetConfig(seconds=30.0),
        callbacks=CallbacksOf(
            on_metrics=lambda metrics, step: reported.append(metrics["nasib/total_steps"])
        ),
    )
    assert max(reported) > 900
    assert search.clock.total_steps == search.step < max(reported) - 100
    assert abs(reported[-1] - search.step) < 30
    assert now.monotonic() <= 30.0
    shares = [search.options.schedule.over(int(n)).exploring_share for n in reported]
    assert shares[-1] < max(shares)


class FakeTime:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic(self) -> float:
        return self._now_s

    def takes(
        self,
        monkeypatch: pytest.MonkeyPatch,
        updates: type[Any],
        *,
        seconds: float,
        later: float | None = None,
        after: int = 0,
    ) -> None:
        made = 0

        def step(its: Any, *arguments: Any, **more: Any) -> Tensor:
            nonlocal made
            made += 1
            self._now_s += seconds if later is None or made <= after else later
            return torch.zeros(())

        monkeypatch.setattr(updates, "step", step)


def test_a_budget_smaller_than_one_step_is_refused(tmp_path: Path, digits: Splits) -> None:
    with pytest.raises(InputError) as told:
        run(tmp_path, digits, budget=BudgetConfig(seconds=1e-4))
    (problem,) = told.value.problems
    assert problem.key == "search.budget.seconds"
    assert "smaller than one step" in problem.message
    assert "for 20 steps" in problem.message


def test_seconds_of_a_real_clock_end_in_time(tmp_path: Path, digits: Splits) -> None:
    start = time.monotonic()
    search = run(tmp_path, digits, budget=BudgetConfig(seconds=2.0))
    assert time.monotonic() - start < 2.4, "with the assembly of the weights and the last save"
    assert search.seconds <= 2.3
    ended_s = search.seconds
    search.accuracies([search.genotype()])
    assert search.seconds == ended_s, "what comes after the budget is not counted"
    check(search.context.space, search.genotype())


def test_control_applies_as_many_operations() -> None:
    space = SuperkernelSpace(SuperkernelSpaceConfig())
    assert control_steps(space, 1000, 0.1) == round(1900 * 14 / 8)
    assert control_steps(space, 1, 0.0) == 4


# --- what survives ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_search_and_another_another(
    tmp_path: Path, digits: Splits
) -> None:
    one, same, other = (
        run(tmp_path / name, digits, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert are_equal(kept(one), kept(same))
    assert one.history.rows == same.history.rows
    assert not are_equal(kept(one), kept(other))


@pytest.mark.parametrize("arm", [BudgetSearch, RandomControl])
def test_a_search_in_two_parts_is_the_search(
    tmp_path: Path, digits: Splits, arm: type[BudgetSearch]
) -> None:
    whole, first = (arm(make_task(tmp_path / name, digits), "x") for name in ("whole", "parts"))
    whole.run()
    first.run(until=0.45)
    assert 0 < first.step < whole.step
    second = arm(first.context, "x")
    second.run()
    assert are_equal(kept(second), kept(whole))
    assert second.history.rows == whole.history.rows
    assert second.genotype() == whole.genotype()


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [KILLS, TERMS], ids=["kill", "term"])
def test_it_goes_on_where_it_was_killed(
    tmp_path: Path, digits_folder: Path, deaths: list[str]
) -> None:
    """An architecture is found on the disk after each end, and in the end there is the same."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, given in ((whole, []), (parts, deaths)):
        folder.mkdir()
        command = [sys.executable, str(KILLED), str(folder), str(digits_folder), *given]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        lines = done.stdout.splitlines()
        statuses, found = lines[::2], lines[1::2]
        died = -9 if given == KILLS else 0
        assert statuses == [str(died)] * len(given) + ["0"], done.stderr
        assert len(given) == (0 if folder == whole else 10)
        for genotype in found:
            check(SuperkernelSpace(SPACE), Genotype.from_dict(json.loads(genotype)))
    outcomes = [json.loads((at / "outcome.json").read_text()) for at in (whole, parts)]
    assert outcomes[0] == outcomes[1]
    for arm in ("method", "control"):
        files = [
            checkpoint.load(at / "state" / f"{arm}.ckpt", f"nasib-{arm}") for at in (whole, parts)
        ]
        assert are_equal(files[0][0], files[1][0])
        assert files[0][1]["history"] == files[1][1]["history"]


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path, digits: Splits) -> None:
    run(tmp_path, digits, budget=BudgetConfig(steps=2))
    with pytest.raises(InputError, match="other settings"):
        run(tmp_path, digits, budget=BudgetConfig(steps=3))
    checkpoint_path(tmp_path / "state").write_bytes(b"damaged")
    with pytest.raises(InputError, match="delete it to start"):
        run(tmp_path, digits, budget=BudgetConfig(steps=2))


def test_weights_that_diverge_end_the_search(tmp_path: Path, digits: Splits) -> None:
    with pytest.raises(WeightsDivergedError, match=r"search\.options\.weights\.lr"):
        run(tmp_path, digits, weights={"batch_size": 32, "lr": 1e30})


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
