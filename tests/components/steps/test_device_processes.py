"""Processes of `training.devices` on a CPU: their trainings are those of one process."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from components.config.schema import dumps, parse
from components.steps import device_processes as module
from components.steps.context_builder import StepInputs, build_context
from components.steps.device_processes import DeviceProcessDied, check_gpus, device_processes
from components.steps.state import CONFIG
from components.steps.trainings import train_together
from nascore.config import CommonTrainingConfig
from nascore.errors import InputError
from nascore.results import Arm, ChildScores, SearchResult
from nascore.spaces.base import StandardSpace, sample
from nascore.training.child import ChildJob, ImageTraining
from nascore.training.final_model import FinalModel
from nascore.training.loop import TrainingStopped

SETTINGS: dict[str, Any] = {
    "method": "random",
    "search": {
        "budget": {"children": 1},
        "space": {"name": "residual", "channels": 8, "num_stages": 2},
        "child": {"epochs": 2, "max_steps": 6, "batch_size": 33},
    },
    "train": {"epochs": 2, "max_steps": 6, "batch_size": 33},
}


class Pruned(Exception):
    """Raised by `on_epoch`, as a pruner does."""


@pytest.fixture
def inputs_for(tmp_path: Path, digits_folder: Path) -> Callable[[int], StepInputs]:
    def make(devices: int) -> StepInputs:
        config = parse({**SETTINGS, "training": {"devices": devices}})
        folder = tmp_path / str(devices)
        shutil.copytree(digits_folder, folder / "data")
        (folder / "data" / CONFIG).write_text(dumps(config))
        return StepInputs(
            config=config,
            dataset=folder / "data",
            controller=folder,
            state=folder / "state",
            run_key="key",
        )

    return make


def children(inputs: StepInputs) -> tuple[list[ChildScores], list[type[Exception]]]:
    """Return the scores of two children, and how two others ended between them."""
    context, training = build_context(inputs), ImageTraining()

    def job(number: int, **changes: Any) -> ChildJob:
        values: dict[str, Any] = {
            "genotype": sample(context.space, context.seeds.numpy("test", number)),
            "arm": "method",
            "number": number,
            "cost": None,
            "on_epoch": lambda epoch, score: None,
            "should_stop": lambda: False,
        }
        return ChildJob(**{**values, **changes})

    def prune(epoch: int, score: float | None) -> None:
        raise Pruned

    asked = iter([False, False, True])
    scores, ends = [training.train(context, job(0))], []
    for ended in (job(1, on_epoch=prune), job(2, should_stop=lambda: next(asked))):
        with pytest.raises((Pruned, TrainingStopped)) as raised:
            training.train(context, ended)
        ends.append(raised.type)
    return [*scores, training.train(context, job(3))], ends


def final(inputs: StepInputs) -> FinalModel:
    context = build_context(inputs)
    result = SearchResult(
        method="random",
        seed=0,
        genotype=context.space.standard,  # type: ignore[attr-defined]
        valid_accuracy=0.5,
        arm=Arm("random", (), 0.0),
        control=None,
        verdict=None,
    )
    trained: FinalModel = train_together(context, "winner", result=result.to_dict())
    return trained


@pytest.mark.slow
def test_children_and_final_network_are_those_of_one_process(
    inputs_for: Callable[[int], StepInputs], one_thread: None
) -> None:
    alone, shared = inputs_for(1), inputs_for(2)
    with device_processes(alone, "children"):
        expected, _ = children(alone)
    with device_processes(shared, "children"):
        assert others(), "another process trains"
        scores, ends = children(shared)
    assert others() == []
    assert ends == [Pruned, TrainingStopped]
    for one, two in zip(expected, scores, strict=True):
        assert two.valid_accuracy == pytest.approx(one.valid_accuracy, abs=0.04)
        assert two.train_accuracy == pytest.approx(one.train_accuracy, abs=0.04)

    found = final(alone)
    with device_processes(shared, "final"):
        found_together = final(shared)
    assert found_together.num_steps == found.num_steps == 6
    for name, weight in found.network.state_dict().items():
        torch.testing.assert_close(
            found_together.network.state_dict()[name], weight, rtol=1e-3, atol=1e-3, msg=name
        )


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training(
    inputs_for: Callable[[int], StepInputs],
) -> None:
    inputs = inputs_for(2)
    context = build_context(inputs)

    def kill() -> bool:
        for other in others():
            os.kill(other, signal.SIGKILL)
        return False

    genotype = sample(context.space, context.seeds.numpy("test"))
    job = ChildJob(genotype, "method", 0, None, lambda epoch, score: None, should_stop=kill)
    with (
        pytest.raises(DeviceProcessDied, match=r"process 2 of the 2 .* ended with status -9"),
        device_processes(inputs, "children"),
    ):
        ImageTraining().train(context, job)
    assert others() == []


@pytest.mark.slow
def test_a_signal_to_all_processes_stops_them_where_the_first_stops(
    inputs_for: Callable[[int], StepInputs],
) -> None:
    inputs = inputs_for(2)
    context = build_context(inputs)
    asked = iter([False, True, False, False, True])

    def signal_all() -> bool:
        stops = next(asked)
        if stops:
            for other in others():
                os.kill(other, signal.SIGTERM)
        return stops

    assert isinstance(context.space, StandardSpace)
    genotype = context.space.standard  # it makes as many updates as the settings say
    job = ChildJob(genotype, "method", 0, None, lambda epoch, score: None, should_stop=signal_all)
    with device_processes(inputs, "children"):
        for _ in range(2):
            with pytest.raises(TrainingStopped):
                ImageTraining().train(context, job)
            assert len(others()) == 1


def test_a_process_that_cannot_start_is_not_waited_for(
    inputs_for: Callable[[int], StepInputs],
) -> None:
    inputs = inputs_for(2)
    (inputs.dataset / "labels.npy").unlink()
    with (
        pytest.raises(DeviceProcessDied, match="ended with status 1; its last lines"),
        device_processes(inputs, "children"),
    ):
        pytest.fail("a group with a missing process trains")


def test_more_devices_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "device_of", lambda config: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus(CommonTrainingConfig(devices=2))
    with pytest.raises(InputError, match=r"training\.devices = 3: there are 2 GPUs here"):
        check_gpus(CommonTrainingConfig(devices=3))


def others() -> list[int]:
    """Return the processes of a group that this one has started."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "components.steps.device_processes" in child.cmdline():
                found.append(child.pid)
    return found
