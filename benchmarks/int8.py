"""Does int8 pay on networks of the size of a quick run? Accuracy, latency and bytes.

    python benchmarks/int8.py digits npz:cifar10_small_rgb.npz

For each data set the standard residual network of the quick preset and `resnet18` are trained by
the quick recipe (`resnet18` for `--steps` weight updates, so that it takes minutes), then quantised
and measured as the promotion does, for one image and for 32. Latencies are medians of the processor
time of one thread: on a busy machine, wall time grows more for long calls than for short ones.
Writes docs/results/int8.{json,md}.
"""

import argparse
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from components.steps.context_builder import StepInputs, build_context
from nascore.context import SearchContext
from nascore.data.prepared import prepare
from nascore.latency.benchmark import device_name
from nascore.quantization.int8 import make_int8
from nascore.reference.network_kind import genotype_of
from nascore.reference.training import new_reference
from nascore.training.final_model import FinalModel, train_network
from pipelines.config import resolve

RESULTS = Path(__file__).parent.parent / "docs" / "results"
NETWORKS = ("standard", "resnet18")
BATCH_SIZES = (1, 32)
RUNS = 20
HEADER = (
    *("data", "network", "parameters", "batch", "fp32 torch", "fp32 onnxruntime", "int8 static"),
    *("int8 dynamic", "valid fp32", "static", "dynamic", "test fp32", "offered", "bytes"),
)


def trained(context: SearchContext, name: str, steps: int, kept: Path | None) -> FinalModel:
    """Return a trained network.

    Args:
        context: of the quick preset.
        name: of the network.
        steps: weight updates of any network but `standard`.
        kept: folder of a network that an earlier call has trained, or to write it to.
    """
    if kept is not None and kept.exists():
        return FinalModel.load(kept, context.space)
    if name != "standard":
        short = context.final.model_copy(update={"max_steps": steps})
        context = replace(context, final=short)
    final = train_network(context, new_reference(context, name), genotype_of(name))
    if kept is not None:
        final.save(kept)
    return final


def rows_of(data: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the measurements of all networks on a data set."""
    seed, keep = arguments.seed, arguments.keep
    rows = []
    with TemporaryDirectory() as folder:
        root = Path(folder)
        settings = f"method=random seed={seed} data.source={data} training.device=cpu".split()
        config = resolve(None, "quick", settings)
        prepare(config.data, seed, root / "data")
        inputs = StepInputs(
            config=config, dataset=root / "data", controller=root, state=root, run_key="int8"
        )
        for name in NETWORKS:
            inputs = replace(inputs, state=root / name)
            context, begun = build_context(inputs), time.perf_counter()
            kept = None if keep is None else keep / f"{Path(data).stem}-{name}"
            final = trained(context, name, arguments.steps, kept)
            print(f"{data} {name}: trained in {time.perf_counter() - begun:.0f} s", flush=True)
            for batch_size in BATCH_SIZES:
                update = {"batch_size": batch_size, "threads": 1, "runs": RUNS, "warmup_runs": 3}
                with patch("time.perf_counter_ns", time.process_time_ns):
                    result = make_int8(
                        final,
                        context.splits,
                        path=root / "int8.onnx",
                        max_drop=0.01,
                        latency=config.latency.model_copy(update=update),
                        generator=context.seeds.torch("promote", "calibration"),
                    )
                row = {"data": data.rpartition("/")[2], "network": name, **result.to_dict()}
                fp32 = {"params": final.num_params, "fp32_test": final.test_accuracy}
                rows.append({**row, **fp32, "fp32_valid": final.valid_score})
                print(f"  batch {batch_size}: {result.why}", flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    made = {one["kind"]: one for one in row["candidates"]}
    static, dynamic = made["static"], made["dynamic"]
    speed = [row["fp32_latency_ms"], row["fp32_onnx_latency_ms"]]
    speed += [static["latency_ms"], dynamic["latency_ms"]]
    offered = f"{row['kind']}, {row['test_accuracy']:.4f}" if row["offered"] else "no"
    cells = (
        *(row["data"], row["network"], f"{row['params']:,}", row["protocol"]["batch_size"]),
        *(f"{one:.3g}" for one in speed),
        f"{row['fp32_valid']:.4f}",
        *(f"{one['valid_score']:.4f}" for one in (static, dynamic)),
        *(f"{row['fp32_test']:.4f}", offered),
        f"{row['fp32_bytes']:,} to {static['bytes']:,}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def write(rows: list[dict[str, Any]], out: Path, command: str) -> None:
    """Write the measurements as JSON and as a page."""
    (out / "int8.json").write_text(json.dumps(rows, indent=1) + "\n")
    protocol = rows[0]["protocol"]
    text = [
        "# Networks in int8",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {device_name(torch.device('cpu'))}, one thread, "
        f"{protocol['runs']} runs, torch {protocol['torch_version']}, onnxruntime "
        f"{protocol['onnxruntime_version']}; other programs used both cores. Renewed by",
        "",
        f"    {command}",
        "",
        *(__doc__ or "").partition(".npz\n\n")[2].strip().splitlines(),
        "",
        "Milliseconds of the processor for a batch; validation and test accuracy; test accuracy in "
        "int8 of what is offered with a margin of 0.01. What the figures mean: "
        "[int8.md](../int8.md).",
        "",
        f"| {' | '.join(HEADER)} |",
        "| --- | --- |" + " ---: |" * (len(HEADER) - 4) + " --- | --- |",
        *map(line, rows),
    ]
    (out / "int8.md").write_text("\n".join(text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", help="values of data.source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder of trained networks, for another call")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for one in arguments.data for row in rows_of(one, arguments)]
    names = " ".join(
        f"{kind}{mark}{path.rpartition('/')[2]}"
        for kind, mark, path in (one.partition(":") for one in arguments.data)
    )
    write(rows, arguments.out, f"python benchmarks/int8.py {names} --steps {arguments.steps}")


if __name__ == "__main__":
    main()
