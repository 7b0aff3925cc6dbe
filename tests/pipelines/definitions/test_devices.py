"""GPUs that a configuration asks for and this machine does not have."""

import pytest

from components.config.schema import parse
from pipelines.definitions import devices
from pipelines.definitions.devices import missing_devices
from pipelines.definitions.resources import missing_gpus


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs, by the number that `torch.cuda.device_count` returns there."""
    monkeypatch.setattr(devices, "_num_gpus", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("training", "refused"),
    [
        ({"devices": 2}, False),
        ({"devices": 3}, True),
        ({"devices": 3, "device": "cuda"}, True),
        ({"devices": 3, "device": "cpu"}, False),
    ],
)
def test_more_devices_than_gpus(training: dict[str, object], refused: bool) -> None:
    problems = missing_devices(parse({"method": "random", "training": training}))
    assert [problem.key for problem in problems] == ["training.devices"] * refused
    for problem in problems:
        assert "this machine has 2 GPUs; use at most 2, or training.device=cpu" in problem.message


def test_processes_share_a_machine_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_num_gpus", lambda: 0)
    assert missing_devices(parse({"method": "random", "training": {"devices": 2}})) == []


@pytest.mark.parametrize(("count", "refused"), [(0, True), (2, False)])
def test_half_precision_needs_a_gpu(
    count: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_num_gpus", lambda: count)
    training = {"precision": "fp16"}
    problems = missing_devices(parse({"method": "random", "training": training}))
    assert [str(problem) for problem in problems] == [
        "training.precision = fp16: torch finds no CUDA device here (see `nas doctor`); use auto, "
        "bf16 or fp32"
    ] * refused


def test_half_precision_needs_a_gpu_in_each_step_that_trains() -> None:
    steps = {"search": {"gpus": 1}, "train_final": {"gpus": 0}, "train_references": {"gpus": 1}}
    given = {"training": {"precision": "fp16"}, "cluster": {"steps": steps}}
    (problem,) = missing_gpus(parse({"method": "random", **given}))
    assert (problem.key, problem.value) == ("training.precision", "fp16")
    assert "cluster.steps.train_final.gpus is 0; give it a GPU, or use auto, b" in problem.message
