"""A network in int8 is offered if it loses little and is faster; else the reason is a sentence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nascore.config import LatencyConfig
from nascore.data.batches import Split, Splits
from nascore.evaluation.scoring import score_of
from nascore.quantization import int8
from nascore.quantization.int8 import Candidate, Int8Result, make_int8
from nascore.quantization.onnx_network import OnnxNetwork
from nascore.training.final_model import FinalModel

pytestmark = pytest.mark.usefixtures("one_thread")


def make(
    final: FinalModel, splits: Splits, path: Path, latency: LatencyConfig, max_drop: float = 0.05
) -> Int8Result:
    generator = torch.Generator().manual_seed(0)
    return make_int8(
        final, splits, path=path, max_drop=max_drop, latency=latency, generator=generator
    )


def test_the_measurements_of_the_offered_network_are_those_of_its_file(
    trained: FinalModel, splits: Splits, tmp_path: Path, latency: LatencyConfig
) -> None:
    path = tmp_path / "model-int8.onnx"
    result = make(trained, splits, path, latency)
    assert result.offered, result.why
    assert result.bytes == path.stat().st_size < (result.fp32_bytes or 0)
    network = OnnxNetwork(path, threads=1)
    for split, expected in (
        (splits.valid, result.valid_score),
        (splits.test, result.test_accuracy),
    ):
        pixels = split.pixels_at(range(split.num_images)).float()
        assert score_of("accuracy", network(pixels), split.labels) == expected
    assert result.valid_drop == trained.valid_accuracy - (result.valid_score or 0)
    assert 0 < (result.latency_ms or 0) < (result.fp32_latency_ms or 0)
    assert {one.kind for one in result.candidates} == {"static", "dynamic"}
    assert result.protocol is not None
    assert (result.protocol["threads"], result.protocol["runs"]) == (1, 20)
    assert [one.name for one in tmp_path.iterdir()] == [path.name], "only what is offered is kept"
    assert f"instead of {result.fp32_latency_ms:.3g} ms" in result.why


class WithOutliers(nn.Module):
    """The same network in fp32; in int8 its logits are rounded to multiples of some thousands."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        same, none = torch.eye(10), torch.zeros(10, 10)
        self.network, self.wide, self.narrow = network, nn.Linear(10, 20), nn.Linear(20, 10)
        with torch.no_grad():
            self.wide.weight.copy_(torch.cat([same, none]))
            self.wide.bias.copy_(torch.tensor([0.0, 1e6]).repeat_interleave(10))
            self.narrow.weight.copy_(torch.cat([same, none], dim=1))
            self.narrow.bias.zero_()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.narrow(self.wide(self.network(x_BCHW)))
        return logits_BK


def test_a_network_that_loses_more_than_the_margin_is_not_offered(
    trained: FinalModel, splits: Splits, tmp_path: Path, latency: LatencyConfig
) -> None:
    path = tmp_path / "model-int8.onnx"
    path.write_bytes(b"of an earlier try")
    sensitive = replace(trained, network=WithOutliers(trained.network).eval())
    result = make(sensitive, splits, path, latency, max_drop=0.5)
    assert not result.offered
    assert "more than promote.int8_max_drop = 0.5." in result.why
    assert result.test_accuracy is None, "the test images are used for an offered network alone"
    assert result.valid_drop is not None
    assert result.valid_drop > 0.5
    assert result.latency_ms is not None
    assert list(tmp_path.iterdir()) == []


class WithBranch(nn.Module):
    """Its path depends on the image."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.flatten(1) if x_BCHW.sum() > 0 else -x_BCHW.flatten(1)


class WithPath(nn.Module):
    """Answers with the path of each image as well, as InstaNAS does."""

    answers = ("logits", "policy")


class LearnsClasses(nn.Module):
    """Has the settings by which it learns the classes of tasks, as few-shot networks do."""

    settings = "of tasks"


NO_GRAPH = "Networks that route images or learn classes have no single static graph."


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (WithBranch(), "The network was not quantised: it cannot be exported to ONNX: TorchExport"),
        (WithPath(), NO_GRAPH),
        (LearnsClasses(), NO_GRAPH),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_network_without_a_static_graph_is_not_offered(
    network: nn.Module,
    reason: str,
    trained: FinalModel,
    splits: Splits,
    tmp_path: Path,
    latency: LatencyConfig,
) -> None:
    result = make(replace(trained, network=network), splits, tmp_path / "int8.onnx", latency)
    assert result.why.startswith(reason)
    assert (result.offered, result.kind, result.candidates) == (False, None, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("candidates", "kind", "offered", "why"),
    [
        ({"static": (0.01, 0.3), "dynamic": (0.0, 0.5)}, "static", True, "instead of 1 ms."),
        ({"static": (0.03, 0.3), "dynamic": (0.0, 0.5)}, "dynamic", True, "instead of 1 ms."),
        ({"static": (0.02, 0.6)}, "static", True, "The gain is that of onnxruntime"),
        ({"static": (0.01, 1.5), "dynamic": (0.0, 2.0)}, "static", False, "is not faster than"),
        ({"static": (0.05, 0.1), "dynamic": (0.03, 0.1)}, "dynamic", False, "loses 0.0300 of"),
    ],
)
def test_the_fastest_within_the_margin_is_chosen(
    candidates: dict[str, tuple[float, float]], kind: str, offered: bool, why: str
) -> None:
    made = [
        Candidate(kind=name, valid_score=0.9 - drop, valid_drop=drop, latency_ms=ms, bytes=1)
        for name, (drop, ms) in candidates.items()
    ]
    fp32, fp32_onnx = Timed(1.0), Timed(0.55)
    best, text, is_offered = int8._choose(made, fp32, fp32_onnx, 0.02)  # type: ignore[arg-type]
    assert (best.kind, is_offered) == (kind, offered)
    assert why in text


class Timed:
    """The one number of a measurement that the choice reads."""

    def __init__(self, p50_ms: float) -> None:
        self.p50_ms = p50_ms


def test_a_kind_that_cannot_be_made_is_named_next_to_the_other(
    trained: FinalModel,
    splits: Splits,
    tmp_path: Path,
    latency: LatencyConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calibrating = []

    def no_images(split: Split, generator: torch.Generator) -> list[Any]:
        calibrating.append(split)
        return []

    monkeypatch.setattr(int8, "calibration_pixels", no_images)
    result = make(trained, splits, tmp_path / "int8.onnx", latency)
    assert calibrating == [splits.train]
    assert result.kind == "dynamic"
    assert "Int8 (static) was not made: ValueError: " in result.why
