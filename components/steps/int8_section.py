"""The network in int8 in model card and metrics, from the content of `result.json`."""

from collections.abc import Mapping
from typing import Any

from components.export.manifest import INT8
from components.steps.markdown import table
from nascore.figures import formatting

FOLDER = "int8"
"""Folder of the file in the artifacts of the run."""
_METRICS = (
    *("offered", "test_accuracy", "valid_score", "valid_drop", "latency_ms", "fp32_latency_ms"),
    *("fp32_onnx_latency_ms", "bytes", "fp32_bytes"),
)
_HEADER = ("network", "test accuracy", "validation score", "latency", "bytes")


def metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the network in int8, from the content of `result.json`."""
    row = result.get("int8") or {}
    return {f"int8.{key}": float(row[key]) for key in _METRICS if row.get(key) is not None}


def section(result: Mapping[str, Any]) -> list[str]:
    """Return lines of Markdown: accuracy, latency and size in fp32 and int8, and code that runs it.

    Empty where no network in int8 was asked for.
    """
    row = result.get("int8")  # absent in results of earlier versions
    if row is None:
        return []
    lines = [row["why"]]
    if row["candidates"]:
        lines += ["", *table(_HEADER, _rows(result, row)), "", _protocol(row)]
    return [*lines, *(_code(result) if row["offered"] else ["", "It is not offered."])]


def _rows(result: Mapping[str, Any], row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    fp32 = formatting.percent(result["test_accuracy"]), f"{result['valid_score']:.4f}"
    latencies = {"torch": row["fp32_latency_ms"], "onnxruntime": row["fp32_onnx_latency_ms"]}
    sizes = {"torch": "", "onnxruntime": formatting.count(row["fp32_bytes"])}
    rows: list[tuple[str, ...]] = [
        (f"fp32, {runtime}", *fp32, formatting.milliseconds(value), sizes[runtime])
        for runtime, value in latencies.items()
    ]
    for one in row["candidates"]:
        is_offered = row["offered"] and one["kind"] == row["kind"]
        rows.append(
            (
                f"int8 {one['kind']}, onnxruntime{' (offered)' if is_offered else ''}",
                formatting.percent(row["test_accuracy"]) if is_offered else "not measured",
                f"{one['valid_score']:.4f}",
                formatting.milliseconds(one["latency_ms"]),
                formatting.count(one["bytes"]),
            )
        )
    return rows


def _protocol(row: Mapping[str, Any]) -> str:
    used = row["protocol"]
    return (
        f"Median latency of a batch of {used['batch_size']} on {used['device']}, CPU threads: "
        f"{used['threads']}; torch {used['torch_version']}, onnxruntime "
        f"{used['onnxruntime_version']}, {used['date']}."
    )


def _code(result: Mapping[str, Any]) -> list[str]:
    """Return code that runs the offered file; a test runs it."""
    data = result["data"]
    shape = f"1, {data['channels']}, {data['size']}, {data['size']}"
    return [
        "",
        f"`{INT8}` is among the exported files and, as `{FOLDER}/{INT8}`, an artifact of the run:",
        "",
        "```python",
        "import numpy as np",
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{INT8}")',
        f"pixels = np.zeros(({shape}), np.float32)  # 0..255; any number of images",
        '(logits,) = session.run(["logits"], {"pixels": pixels})',
        "```",
    ]
