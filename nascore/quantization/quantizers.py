"""Post-training quantisation of ONNX files to int8 by onnxruntime.

`static`: weights and activations; the ranges of the activations come from calibration images.
`dynamic`: weights; the ranges of the activations are computed in each call. Weights have one scale
for each output channel, and 7 bits: on x86 CPUs without VNNI instructions the sums of products of
8 bits overflow, so the network would answer differently there.

N images, C channels, H = W pixels.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from nascore.data.batches import Split
from nascore.quantization.onnx_network import INPUT, QuantizationError, first_line, refusals

NUM_CALIBRATION_IMAGES = 256
_BATCH_SIZE = 32


def calibration_pixels(split: Split, generator: torch.Generator) -> list[NDArray[Any]]:
    """Return random images of a split as stored, in batches of float32 (N, C, H, W)."""
    chosen = torch.randperm(split.num_images, generator=generator)[:NUM_CALIBRATION_IMAGES]
    batches = chosen.sort().values.split(_BATCH_SIZE)
    return [split.pixels_at(batch.tolist()).float().cpu().numpy() for batch in batches]


def quantize(
    source: Path, folder: Path, batches: Sequence[NDArray[Any]]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write the quantised files of a network.

    Args:
        source: ONNX file in fp32.
        folder: existing folder of the files.
        batches: calibration images, from `calibration_pixels`.

    Returns:
        Files by kind, and the reasons of the kinds that failed.

    Raises:
        QuantizationError: the file cannot be prepared for either kind.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"

    def static(path: Path) -> None:
        quantize_static(
            prepared,
            path,
            _Images(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,  # signed ones take 2.7 times as long on x86 CPUs
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )

    def dynamic(path: Path) -> None:
        weights = QuantType.QInt8
        quantize_dynamic(prepared, path, per_channel=True, weight_type=weights, reduce_range=True)

    try:  # fuses batch normalisation; symbolic shapes matter for sequences only
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
    except refusals() as error:
        raise QuantizationError(f"it cannot be prepared: {first_line(error)}") from error
    writers: dict[str, Callable[[Path], None]] = {"static": static, "dynamic": dynamic}
    files, failed = {}, {}
    for kind, write in writers.items():
        path = folder / f"{kind}.onnx"
        try:
            write(path)
        except refusals() as error:
            failed[kind] = first_line(error)
        else:
            files[kind] = path
    return files, failed


class _Images:
    """The calibration images as onnxruntime reads them: one batch a call, then None."""

    def __init__(self, batches: Sequence[NDArray[Any]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
