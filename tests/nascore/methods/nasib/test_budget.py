"""The budget of a search: steps and time, neither more nor less."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from callbacks import CallbacksOf
from nasib_tasks import make_task, num_alive, run
from torch import Tensor

from nascore.config import BudgetConfig
from nascore.data.batches import Splits
from nascore.errors import InputError
from nascore.methods.common.weight_updates import WeightUpdates
from nascore.methods.nasib import budget_tracker
from nascore.methods.nasib.random_control import control_steps
from nascore.methods.nasib.search import BudgetSearch, best_so_far
from nascore.methods.nasib.updates import LogitUpdates
from nascore.spaces.base import check
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import SuperkernelSpace


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
