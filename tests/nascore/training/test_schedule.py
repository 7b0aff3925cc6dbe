"""Number of steps by time, and the schedule of a training that has to be shortened."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.training import run as training_run
from nascore.training import schedule
from nascore.training.loop import Training, train
from nascore.training.schedule import Schedule, TimeLimit, learning_rate


class Clock:
    """A clock that the test moves; it stands for `time` in the modules of training."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (schedule, training_run):
        monkeypatch.setattr(module, "time", clock)
    return clock


class Timed(nn.Module):
    """A small network whose forward pass takes a time by the clock."""

    def __init__(self, clock: Clock, seconds: Callable[[int], float]) -> None:
        super().__init__()
        self.clock, self.seconds, self.calls = clock, seconds, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head = nn.Linear(64, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.clock.now += self.seconds(self.calls)
        self.calls += 1
        return self.head(x_BCHW.flatten(1))


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


CONFIG = TrainingConfig(epochs=1, batch_size=32, recipe="quick")


def run(
    digits: Splits, network: nn.Module, config: TrainingConfig, seconds: float | None
) -> Training:
    generator = torch.Generator().manual_seed(0)
    return train(
        network, digits.train, config, generator=generator, valid=digits.valid, seconds=seconds
    )


@pytest.mark.parametrize("seconds", [3.0, 30.0, 120.0])
def test_the_whole_schedule_ends_within_the_time(
    digits: Splits, clock: Clock, seconds: float
) -> None:
    begin = clock.now
    network = Timed(clock, lambda _: 0.1)
    found = run(digits, network, CONFIG, seconds)
    assert 0.85 * seconds <= clock.now - begin <= 1.05 * seconds
    assert found.messages == ()
    same = Timed(clock, lambda _: 0.1)
    config = CONFIG.model_copy(update={"epochs": 10_000, "max_steps": found.num_steps})
    again = run(digits, same, config, None)
    assert again.train_accuracy == found.train_accuracy
    assert torch.equal(network.head.weight, same.head.weight), "as with that number of steps"


def test_a_machine_that_becomes_slower_shortens_the_schedule(digits: Splits, clock: Clock) -> None:
    begin = clock.now
    network = Timed(clock, lambda call: 0.1 if call < 300 else 0.4)
    found = run(digits, network, CONFIG, 120.0)
    assert clock.now - begin <= 120 * 1.05 + 0.4 * digits.train.steps_per_epoch(CONFIG)
    assert "updates take longer" in found.messages[0]
    assert len(found.valid_accuracy) >= 2


def test_a_machine_that_becomes_faster_lengthens_the_schedule(digits: Splits, clock: Clock) -> None:
    begin = clock.now
    network = Timed(clock, lambda call: 0.4 if call < 300 else 0.1)
    found = run(digits, network, CONFIG, 240.0)
    assert 0.85 * 240 <= clock.now - begin <= 1.05 * 240
    assert "updates take less time" in found.messages[0]


def test_at_least_one_step_is_made(digits: Splits, clock: Clock) -> None:
    assert run(digits, Timed(clock, lambda _: 5.0), CONFIG, 1.0).num_steps == 1


def test_a_resumed_training_has_the_rest_of_the_time(clock: Clock) -> None:
    limit = TimeLimit(100.0, spent_s=40.0)
    limit.begin(0)
    clock.now += 10.0
    assert limit.affordable_end(10, 60) == 60
    assert limit.affordable_end(10, 70) == 60
    assert limit.affordable_end(10, 40) == 40
    assert limit.affordable_end(10, 40, lengthens=True) == 60
    assert limit.affordable_end(10, 55, lengthens=True) == 55


def test_a_shortened_schedule_goes_through_all_rates() -> None:
    config = TrainingConfig(lr=1.0, min_lr=0.0)
    plan = Schedule.of(100)
    rates = []
    for step in range(70):
        if step == 40:
            plan.move_end(40, 70)
        rates.append(learning_rate(config, plan.position(step), 100))
    assert rates[:41] == [learning_rate(config, step, 100) for step in range(41)]
    assert rates == sorted(rates, reverse=True)
    assert rates[69] == pytest.approx(learning_rate(config, 98, 100))
    plan.move_end(60, 65)
    assert plan.position(60) == pytest.approx(80)
    assert plan.position(65) == pytest.approx(100)
    assert Schedule(**plan.to_dict()) == plan
