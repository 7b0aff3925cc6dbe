"""A trained network in int8: made, measured, and offered if it loses little and is faster.

The validation split decides; the test split is used once, for a network that is offered.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nascore.config import LatencyConfig
from nascore.data.batches import Split, Splits
from nascore.evaluation.scoring import score_of
from nascore.latency.benchmark import LatencyResult, measure
from nascore.quantization.onnx_network import (
    OnnxNetwork,
    QuantizationError,
    export,
    first_line,
    refusals,
)
from nascore.quantization.quantizers import calibration_pixels, quantize
from nascore.training.final_model import DeployedModel, FinalModel

_BATCH_SIZE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A quantised network.

    Attributes:
        kind: `static` or `dynamic`.
        valid_score: in the objective of the search.
        valid_drop: validation score of the network in fp32 minus that in int8.
        latency_ms: median for one batch, in onnxruntime.
        bytes: size of its file.
    """

    kind: str
    valid_score: float
    valid_drop: float
    latency_ms: float
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Result:
    """Whether a network in int8 is offered, and its measurements with those in fp32.

    Attributes:
        why: a sentence.
        kind, valid_score, valid_drop, latency_ms, bytes: of the best candidate; None without one.
        test_accuracy: of the offered network; None if none is offered.
        fp32_latency_ms: of the registered network in torch.
        fp32_onnx_latency_ms: of the same network in onnxruntime.
        fp32_bytes: size of its ONNX file.
        candidates: all that were made.
        protocol: of all latencies: device, threads, batch size, runs, versions.
    """

    offered: bool
    why: str
    kind: str | None = None
    test_accuracy: float | None = None
    valid_score: float | None = None
    valid_drop: float | None = None
    latency_ms: float | None = None
    fp32_latency_ms: float | None = None
    fp32_onnx_latency_ms: float | None = None
    bytes: int | None = None
    fp32_bytes: int | None = None
    candidates: tuple[Candidate, ...] = ()
    protocol: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)


def make_int8(
    final: FinalModel,
    splits: Splits,
    *,
    path: Path,
    max_drop: float,
    latency: LatencyConfig,
    generator: torch.Generator,
) -> Int8Result:
    """Quantise a trained network, and write it as an ONNX file if it is to be offered.

    Args:
        final: the network, on the CPU.
        splits: on the CPU; images of the training split calibrate.
        path: file to write, in an existing folder; that of an earlier try is removed.
        max_drop: largest loss of validation score.
        latency: protocol of the measurement; the device is always the CPU.
        generator: draws the calibration images.
    """
    path.unlink(missing_ok=True)
    network = DeployedModel(final.network, splits.info).eval()
    if network.answers != ("logits",) or network.tasks is not None:
        why = "Networks that route images or learn classes have no single static graph."
        return Int8Result(offered=False, why=why)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        source = Path(temporary) / "fp32.onnx"
        try:
            export(network, final.shape, source)
            pixels = calibration_pixels(splits.train, generator)
            files, failed = quantize(source, Path(temporary), pixels)
        except QuantizationError as error:
            return Int8Result(offered=False, why=f"The network was not quantised: {error}.")
        on_cpu = latency.model_copy(update={"device": "cpu"})
        fp32 = measure(network, final.shape, on_cpu)
        fp32_onnx = measure(OnnxNetwork(source, threads=latency.threads), final.shape, on_cpu)
        candidates = []
        for kind, file in files.items():
            try:
                candidates.append(_candidate(kind, file, final, splits.valid, on_cpu))
            except refusals() as error:  # onnxruntime lacks an operation of the file
                failed[kind] = first_line(error)
        reasons = [f"Int8 ({kind}) was not made: {reason}." for kind, reason in failed.items()]
        if not candidates:
            return Int8Result(offered=False, why=" ".join(reasons))
        best, why, offered = _choose(candidates, fp32, fp32_onnx, max_drop)
        test_accuracy = None
        if offered:
            shutil.copyfile(files[best.kind], path)
            logits_NK = _predict(OnnxNetwork(path), splits.test)
            test_accuracy = score_of("accuracy", logits_NK, splits.test.labels)
        return Int8Result(
            offered=offered,
            why=" ".join([why, *reasons]),
            test_accuracy=test_accuracy,
            fp32_latency_ms=fp32.p50_ms,
            fp32_onnx_latency_ms=fp32_onnx.p50_ms,
            fp32_bytes=source.stat().st_size,
            candidates=tuple(candidates),
            protocol=_protocol(fp32),
            **asdict(best),
        )


def _candidate(
    kind: str, path: Path, final: FinalModel, valid: Split, latency: LatencyConfig
) -> Candidate:
    """Return the measurements of a quantised file."""
    network = OnnxNetwork(path, threads=latency.threads)
    score = score_of(final.objective, _predict(network, valid), valid.labels)
    fp32_score = final.valid_accuracy if final.valid_score is None else final.valid_score
    return Candidate(
        kind=kind,
        valid_score=score,
        valid_drop=fp32_score - score,
        latency_ms=measure(network, final.shape, latency).p50_ms,
        bytes=path.stat().st_size,
    )


def _predict(network: OnnxNetwork, split: Split) -> Tensor:
    """Return logits (N, K) of all images of a split, in its order."""
    batches = split.pixel_batches(_BATCH_SIZE)
    return torch.cat([network(x_BCHW.float()) for x_BCHW in batches])


def _choose(
    candidates: list[Candidate], fp32: LatencyResult, fp32_onnx: LatencyResult, max_drop: float
) -> tuple[Candidate, str, bool]:
    """Return the best candidate, why it is offered or not, and whether it is."""
    within = [one for one in candidates if one.valid_drop <= max_drop]
    if not within:
        best = min(candidates, key=lambda one: one.valid_drop)
        why = (
            f"Int8 ({best.kind}) loses {best.valid_drop:.4f} of the validation score, more than "
            f"promote.int8_max_drop = {max_drop:g}."
        )
        return best, why, False
    best = min(within, key=lambda one: one.latency_ms)
    if best.latency_ms >= fp32.p50_ms:
        why = (
            f"Int8 ({best.kind}) takes {best.latency_ms:.3g} ms and is not faster than the "
            f"registered network in fp32, which takes {fp32.p50_ms:.3g} ms."
        )
        return best, why, False
    why = (
        f"Int8 ({best.kind}) has a validation score of {best.valid_score:.4f}, fp32 "
        f"{best.valid_score + best.valid_drop:.4f}, and takes {best.latency_ms:.3g} ms instead of "
        f"{fp32.p50_ms:.3g} ms."
    )
    if best.latency_ms >= fp32_onnx.p50_ms:
        why += (
            f" The gain is that of onnxruntime, in which fp32 takes only {fp32_onnx.p50_ms:.3g} ms."
        )
    return best, why, True


def _protocol(measured: LatencyResult) -> dict[str, Any]:
    import onnxruntime

    keys = ("device", "threads", "batch_size", "runs", "warmup_runs", "torch_version", "date")
    protocol = {key: getattr(measured, key) for key in keys}
    return {**protocol, "onnxruntime_version": onnxruntime.__version__}
