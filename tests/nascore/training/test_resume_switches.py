"""A training that was killed continues bit for bit, under each switch of the recipe."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.errors import InputError
from nascore.training import updates
from nascore.training.loop import OnEpoch, Training, TrainingStopped, train
from nascore.training.losses import BatchLoss, Targets
from nascore.training.resumable import TrainingCheckpoint

SWITCHES: dict[str, dict[str, Any]] = {
    "paper": {},
    "quick": {"recipe": "quick"},
    "strong": {"recipe": "strong"},
    "label_smoothing": {"label_smoothing": 0.1},
    "ema": {"ema": 0.3},
    "flip and cutout": {"flip": True, "cutout": 3},
    "balanced sampling": {"sampling": "balanced"},
    "trivial": {"auto_augment": "trivial"},
    "rand": {"auto_augment": "rand"},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "mixup and cutmix": {"mixup": 0.2, "cutmix": 1.0},
    "adamw": {"optimizer": "adamw", "lr": 0.003},
    "muon": {"optimizer": "muon", "lr": 0.003},
    "muon, channels_last": {"optimizer": "muon", "lr": 0.003, "channels_last": True},
    "clipping": {"max_grad_norm": 0.5},
    "warm-up": {"warmup_fraction": 0.3},
    "channels_last": {"channels_last": True},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
}
STEPS, KILLED_AT = 24, 17  # in the second epoch of 15 steps


class Killed(BaseException):
    """The process ends in the middle of a step."""


class KillingLoss(BatchLoss):
    """The loss of a batch, in whose computation number `at` the process is killed."""

    def __init__(self, at: int | None, label_smoothing: float) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.at, self.calls = at, 0

    def __call__(self, network: Any, x_BCHW: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        if self.calls == self.at:
            raise Killed
        self.calls += 1
        return super().__call__(network, x_BCHW, targets)


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Splits:
    return load(digits_folder, torch.device("cpu"))


def new_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(32, 10),
        )


def run(
    digits: Splits,
    path: Path,
    settings: dict[str, Any],
    *,
    killed_at: int | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Training, nn.Module]:
    network = new_network()
    config = TrainingConfig(**{"epochs": 3, "max_steps": STEPS, "batch_size": 64, **settings})
    checkpoint = TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        training = train(
            network,
            digits.train,
            config,
            generator=torch.Generator().manual_seed(1),
            valid=digits.valid,
            checkpoint=checkpoint,
            loss=KillingLoss(killed_at, config.label_smoothing),
            should_stop=should_stop,
            on_epoch=on_epoch,
        )
    return training, network


def assert_same(one: nn.Module, other: nn.Module) -> None:
    found = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(found[name], value), name


@pytest.fixture
def half_precision_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 is refused on CPUs for its speed; its scaled losses are tested here all the same."""

    def dtype_of(config: TrainingConfig, device: torch.device) -> torch.dtype:
        types = {"fp16": torch.float16, "bf16": torch.bfloat16}
        return types.get(config.precision, torch.float32)

    monkeypatch.setattr(updates, "dtype_of", dtype_of)


@pytest.mark.usefixtures("half_precision_on_the_cpu")
@pytest.mark.parametrize("name", SWITCHES)
def test_a_killed_training_continues_bit_for_bit(digits: Splits, tmp_path: Path, name: str) -> None:
    settings = SWITCHES[name]
    whole, one = run(digits, tmp_path / "whole.ckpt", settings)
    path = tmp_path / "killed.ckpt"
    with pytest.raises(Killed):
        run(digits, path, settings, killed_at=KILLED_AT)
    resumed, other = run(digits, path, settings)
    assert_same(one, other)
    assert resumed.num_steps == whole.num_steps
    for measured in ("train_accuracy", "valid_accuracy"):
        assert getattr(resumed, measured) == getattr(whole, measured)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the C++ compiler, on a machine with other work
def test_a_killed_compiled_training_continues_bit_for_bit(digits: Splits, tmp_path: Path) -> None:
    settings = {"compile": True}
    whole, one = run(digits, tmp_path / "whole.ckpt", settings)
    assert whole.messages == ()
    path = tmp_path / "killed.ckpt"
    with pytest.raises(Killed):
        run(digits, path, settings, killed_at=KILLED_AT)
    torch.compiler.reset()
    _, other = run(digits, path, settings)
    assert_same(one, other)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_training_killed_after_an_epoch_evaluates_it_again(
    digits: Splits, tmp_path: Path, epoch: int
) -> None:
    whole, one = run(digits, tmp_path / "whole.ckpt", {"ema": 0.3})
    path = tmp_path / "killed.ckpt"

    def die(ended: int, score: float | None) -> None:
        if ended == epoch:
            raise Killed

    with pytest.raises(Killed):
        run(digits, path, {"ema": 0.3}, on_epoch=die)
    resumed, other = run(digits, path, {"ema": 0.3})
    assert_same(one, other)
    assert resumed.valid_accuracy == whole.valid_accuracy
    assert resumed.train_accuracy == whole.train_accuracy


def test_a_training_that_is_asked_to_stop_saves_first(digits: Splits, tmp_path: Path) -> None:
    whole, one = run(digits, tmp_path / "whole.ckpt", {})
    path = tmp_path / "stopped.ckpt"
    polls = iter([*[False] * 9, True])
    with pytest.raises(TrainingStopped):
        run(digits, path, {}, should_stop=lambda: next(polls))
    _, meta = TrainingCheckpoint(path, "test", {"seed": 0}, every_s=0.0).load() or ({}, {})
    assert meta["step"] == 9
    resumed, other = run(digits, path, {})
    assert_same(one, other)
    assert resumed.train_accuracy == whole.train_accuracy


def test_a_checkpoint_of_another_training_is_refused(digits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "training.ckpt"
    TrainingCheckpoint(path, "test", {"seed": 9}, every_s=0.0).save({})
    with pytest.raises(InputError, match="with other settings"):
        run(digits, path, {})
