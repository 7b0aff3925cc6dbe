"""Export to ONNX: the file answers as the network does, for any number of images, or is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nascore.data.batches import Splits
from nascore.quantization.onnx_network import OnnxNetwork, QuantizationError, export
from nascore.training.final_model import DeployedModel, FinalModel
from nascore.training.flip_averaging import FlipAveraged


@pytest.mark.parametrize("wrap", [nn.Module.eval, FlipAveraged], ids=["static", "flip-averaged"])
def test_the_file_answers_as_the_network_does_for_any_number_of_images(
    wrap: Callable[[nn.Module], nn.Module], trained: FinalModel, splits: Splits, tmp_path: Path
) -> None:
    network = DeployedModel(wrap(trained.network), splits.info).eval()
    export(network, trained.shape, tmp_path / "network.onnx")
    read = OnnxNetwork(tmp_path / "network.onnx", threads=1)
    for count in (1, 2, 100):
        pixels = splits.test.pixels_at(range(count)).float()
        with torch.inference_mode():
            torch.testing.assert_close(read(pixels), network(pixels), rtol=1e-4, atol=1e-3)
    assert b".py" not in (tmp_path / "network.onnx").read_bytes(), "paths of this machine"


class WithBranch(nn.Module):
    """Its path depends on the image, so it has no static graph."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.sum() > 0:
            return x_BCHW.flatten(1)
        return -x_BCHW.flatten(1)


class OfBatchSize(nn.Module):
    """The logits depend on how many images are in the batch, which the exporter takes as fixed."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.flatten(1) * (2.0 if len(x_BCHW) == 2 else 1.0)


class WithState(nn.Module):
    """Answers torch and ONNX differently: the exporter has stored the answer of the first call."""

    calls = 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.calls += 1
        return x_BCHW.flatten(1) * self.calls


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (WithBranch(), "cannot be exported to ONNX: TorchExportError"),
        (OfBatchSize(), "cannot be exported to ONNX: "),
        (WithState(), "its ONNX file answers differently: logits differ by up to"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_network_without_a_true_onnx_file_is_refused_with_the_reason(
    network: nn.Module, reason: str, trained: FinalModel, splits: Splits, tmp_path: Path
) -> None:
    deployed = DeployedModel(network, splits.info).eval()
    with pytest.raises(QuantizationError, match=reason) as raised:
        export(deployed, trained.shape, tmp_path / "network.onnx")
    assert "\n" not in str(raised.value)
