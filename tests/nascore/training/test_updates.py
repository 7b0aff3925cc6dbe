"""Parts of a weight update: mixing, averaging, optimisers, precision, early stop, compilation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.errors import ChildFailedError, InputError
from nascore.training import precision
from nascore.training.loop import Training, train
from nascore.training.losses import BatchLoss, Targets
from nascore.training.mixing import mix
from nascore.training.optimizers import KernelMuon, make_optimizers
from nascore.training.prediction import predict

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits(digits_folder: Path) -> Splits:
    return load(digits_folder, CPU)


def new_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )


def run(
    digits: Splits, network: nn.Module, *, loss: Any = None, **settings: Any
) -> tuple[Training, list[str]]:
    messages: list[str] = []
    training = train(
        network,
        digits.train,
        TrainingConfig(**{"epochs": 2, "batch_size": 64, **settings}),
        generator=torch.Generator().manual_seed(1),
        valid=digits.valid,
        loss=loss,
        on_message=messages.append,
    )
    return training, messages


# --- mixing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_the_share_of_a_label_is_the_share_of_its_image(settings: dict[str, float]) -> None:
    y_B = torch.arange(16)
    x_BCHW = y_B.float().view(-1, 1, 1, 1).expand(16, 2, 8, 8)
    shares = set()
    for number in range(30):
        rng = np.random.default_rng(number)
        mixed, targets = mix(x_BCHW, y_B, TrainingConfig(**settings), rng)
        assert targets.mixed_B is not None
        wanted = targets.share * y_B + (1 - targets.share) * targets.mixed_B
        torch.testing.assert_close(mixed.mean((1, 2, 3)), wanted.float())
        assert 0.5 <= targets.share <= 1
        shares.add(round(targets.share, 6))
    assert len(shares) > 5
    assert torch.equal(x_BCHW[:, 0, 0, 0], y_B.float()), "the given images are not changed"


def test_with_both_kinds_of_mixing_batches_have_either() -> None:
    y_B = torch.arange(8)
    x_BCHW = y_B.float().view(-1, 1, 1, 1).expand(8, 1, 8, 8)
    config = TrainingConfig(mixup=1.0, cutmix=1.0)
    kinds = set()
    for number in range(20):
        mixed, _ = mix(x_BCHW, y_B, config, np.random.default_rng(number))
        kinds.add(bool((mixed == mixed.round()).all()))
    assert kinds == {True, False}


def test_mixed_batches_depend_on_the_generator_of_the_training(digits: Splits) -> None:
    found = []
    for seed in (1, 1, 2):
        network = new_network()
        config = TrainingConfig(epochs=1, max_steps=3, mixup=0.5)
        train(network, digits.train, config, generator=torch.Generator().manual_seed(seed))
        found.append(network[0].weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


# --- average of weights ------------------------------------------------------------------------


def test_the_average_is_kept_and_its_running_statistics_fit_it(digits: Splits) -> None:
    """Normalised by the statistics of the training images, it predicts as by its own."""
    network = new_network()
    training, _ = run(digits, network, epochs=6, ema=0.3, lr=0.1, min_lr=0.1, crop_padding=0)
    plain = new_network()
    run(digits, plain, epochs=6, lr=0.1, min_lr=0.1, crop_padding=0)
    assert not torch.equal(network[0].weight, plain[0].weight)
    own_NK = predict(network, digits.test)
    accuracy = float((own_NK.argmax(1) == digits.test.labels).double().mean())
    norm = network[1]
    before = norm.running_mean.clone(), norm.running_var.clone()
    (x_BCHW, _), *_ = digits.train.eval_batches(10_000)
    norm.reset_running_stats()
    norm.momentum = None  # the plain mean
    network.train()
    with torch.no_grad():
        network(x_BCHW)
    for found, wanted in zip(before, (norm.running_mean, norm.running_var), strict=True):
        assert (found - wanted).abs().max() < 0.3 * wanted.abs().max()
    renewed = float((predict(network, digits.test).argmax(1) == digits.test.labels).double().mean())
    assert abs(renewed - accuracy) < 0.03
    assert training.valid_accuracy[-1] > 0.5


# --- optimisers -------------------------------------------------------------------------------


def test_muon_updates_kernels_through_matrices_and_adamw_the_rest() -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(1, 3))
        network = network.to(memory_format=memory_format)
        config = TrainingConfig(optimizer="muon", lr=0.01)
        muon, adamw = make_optimizers(network, config)
        assert isinstance(muon, KernelMuon)
        assert isinstance(adamw, torch.optim.AdamW)
        kernel, matrix = network[0].weight, muon.param_groups[0]["params"][0]
        assert matrix.data_ptr() == kernel.data_ptr()
        before = kernel.detach().clone()
        network(torch.randn(4, 3, 8, 8)).square().mean().backward()
        muon.take_gradients()
        muon.step()
        change = kernel.detach() - before * (1 - 0.01 * config.weight_decay)
        assert kernel.grad is not None
        assert _spread(change) < _spread(kernel.grad) / 3, "an update is nearly orthogonal"


def _spread(kernel: Tensor) -> float:
    """Return the ratio of the largest to the smallest singular value."""
    singular = torch.linalg.svdvals(kernel.flatten(1))
    return float(singular.max() / singular.min())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_other_optimisers_learn_and_spare_biases_from_decay(digits: Splits, optimizer: str) -> None:
    network = new_network()
    training, _ = run(digits, network, epochs=8, optimizer=optimizer, lr=0.01, weight_decay=0.0)
    assert training.valid_accuracy[-1] > 0.5
    for one in make_optimizers(network, TrainingConfig(optimizer=optimizer, lr=0.01)):
        for group in one.param_groups:
            assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_a_network_without_kernels_is_trained_by_adamw_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (one,) = make_optimizers(network, TrainingConfig(optimizer="muon", lr=0.01))
    assert isinstance(one, torch.optim.AdamW)


# --- precision --------------------------------------------------------------------------------


class Overflows(BatchLoss):
    """The loss is not finite at some steps while the network computes in half precision."""

    def __init__(self, at: int, *, always: bool = False) -> None:
        super().__init__()
        self.at, self.always, self.calls = at, always, 0

    def __call__(self, network: Any, x_BCHW: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        loss, logits_BK = super().__call__(network, x_BCHW, targets)
        self.calls += 1
        is_half = torch.is_autocast_enabled("cpu")
        return (loss * math.nan if self.calls > self.at and (is_half or self.always) else loss), (
            logits_BK
        )


def test_a_loss_that_is_not_finite_in_bf16_goes_on_in_fp32_from_the_last_epoch(
    digits: Splits,
) -> None:
    steps = digits.train.steps_per_epoch(TrainingConfig(batch_size=64))
    network = new_network()
    training, messages = run(digits, network, loss=Overflows(steps + 1), epochs=3, precision="bf16")
    assert len(messages) == 1
    assert "goes on in fp32" in messages[0]
    assert training.messages == tuple(messages)
    assert training.num_steps == 3 * steps
    assert all(bool(p.isfinite().all()) for p in network.parameters())
    with pytest.raises(ChildFailedError, match="loss is nan"):
        run(digits, new_network(), loss=Overflows(3, always=True), precision="bf16")


def test_bf16_and_fp32_reach_the_same_accuracy(digits: Splits) -> None:
    found = {
        kind: run(digits, new_network(), epochs=8, lr=0.1, precision=kind)[0].valid_accuracy[-1]
        for kind in ("fp32", "bf16")
    }
    assert found["fp32"] > 0.6
    assert abs(found["bf16"] - found["fp32"]) < 0.08


def test_fp16_needs_a_gpu_and_auto_is_fp32_without_one(digits: Splits) -> None:
    with pytest.raises(InputError, match=r"needs a GPU; set it to auto, bf16 or fp32"):
        run(digits, new_network(), precision="fp16")
    assert precision.dtype_of(TrainingConfig(precision="auto"), CPU) == torch.float32


# --- compilation --------------------------------------------------------------------------------


def test_a_compiler_that_fails_is_reported_and_changes_no_weight(
    digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine without a C++ compiler, which Inductor finds out at the first call."""

    def compile_(network: nn.Module, **_: object) -> Any:
        def program(x_BCHW: Tensor) -> Tensor:
            network(x_BCHW)
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

        return program

    monkeypatch.setattr(torch, "compile", compile_)
    plain, network = new_network(), new_network()
    run(digits, plain)
    _, messages = run(digits, network, compile=True)
    assert messages == [
        "torch.compile failed, so the network is trained without it: "
        "InvalidCxxCompiler: No working C++ compiler found"
    ]
    for name, value in plain.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the C++ compiler, on a machine with other work
def test_a_compiled_network_learns_what_the_network_itself_learns(digits: Splits) -> None:
    plain, network = new_network(), new_network()
    run(digits, plain)
    training, messages = run(digits, network, compile=True)
    assert messages == []
    torch.testing.assert_close(network[0].weight, plain[0].weight, atol=1e-3, rtol=1e-3)
    assert training.num_steps == 2 * digits.train.steps_per_epoch(TrainingConfig(batch_size=64))
