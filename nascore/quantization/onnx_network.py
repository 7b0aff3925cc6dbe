"""A network as an ONNX file: export with a check of its answers, and inference by onnxruntime.

B images, C channels, H = W pixels, K classes. ONNX and onnxruntime are imported when they are used:
they take a second, which runs without quantisation need not wait for.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from nascore.spaces.base import ImageShape
from nascore.threads import thread_limit
from nascore.training.final_model import DeployedModel

INPUT = "pixels"
OUTPUT = "logits"
_EXPORTED_BATCH = 2  # one image would be exported as a fixed batch size
_CHECKED_BATCH = 7  # another one, which a graph with a fixed batch size refuses
_TOLERANCE = 1e-3  # of the largest logit; onnxruntime sums in another order than torch


class QuantizationError(Exception):
    """A network cannot be exported to ONNX or quantised; the text is the reason."""


def refusals() -> tuple[type[Exception], ...]:
    """Return the errors with which exporter, quantiser and onnxruntime refuse a network.

    The errors of onnxruntime have no common class but `Exception`; that of the exporter is a
    RuntimeError. The quantiser has no class of errors: an operation that it does not know ends in
    whatever its code runs into. A trained model is registered all the same.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    own = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf)
    more = (errors.NotImplemented, errors.RuntimeException, errors.EPFail)
    return (*own, *more, RuntimeError, ValueError, TypeError, LookupError, AttributeError)


class OnnxNetwork(nn.Module):
    """The network of an ONNX file on the CPU: pixels (B, C, H, W) of 0..255 -> logits (B, K)."""

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Load the file.

        Args:
            path: the file.
            threads: CPU threads; None: as many as torch uses.
        """
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        with thread_limit(threads):
            options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors, which are raised as well
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        (logits_BK,) = self._session.run([OUTPUT], {INPUT: pixels_BCHW.numpy()})
        return torch.from_numpy(logits_BK)


def export(network: DeployedModel, shape: ImageShape, path: Path) -> None:
    """Write a network with its normalisation as an ONNX file for batches of any size.

    Args:
        network: on the CPU, in evaluation mode, with one output.
        shape: of the images.
        path: file to write.

    Raises:
        QuantizationError: the network cannot be exported, or the file answers differently.
    """
    generator = torch.Generator().manual_seed(0)  # fixed values; which ones does not matter
    size = (_EXPORTED_BATCH + _CHECKED_BATCH, shape.channels, shape.size, shape.size)
    pixels_BCHW = torch.randint(256, size, generator=generator).float()
    try:
        program = torch.onnx.export(
            network,
            (pixels_BCHW[:_EXPORTED_BATCH],),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
        assert program is not None, "it is always returned with dynamo=True"
        graph = program.model.graph
        for part in (graph, *graph):  # the source lines of each node, with paths of this machine
            part.metadata_props.clear()
        program.save(path)
        answer_BK = OnnxNetwork(path)(pixels_BCHW[-_CHECKED_BATCH:])
    except refusals() as error:
        raise QuantizationError(f"it cannot be exported to ONNX: {first_line(error)}") from error
    with torch.inference_mode():
        expected_BK = network(pixels_BCHW[-_CHECKED_BATCH:])
    difference = float((answer_BK - expected_BK).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(expected_BK.abs().max())):  # or NaN
        raise QuantizationError(
            f"its ONNX file answers differently: logits differ by up to {difference:.2g}"
        )


def first_line(error: Exception) -> str:
    """Return the type of an error with the beginning of its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
