"""InstaNAS against MobileNetV2 of the same scale, over seeds, on CIFAR-10.

    python benchmarks/instanas.py --data npz:CIFAR10.npz

Every seed is a complete run of the search pipeline (`nas run`). The network that has the first
operation in every block, MobileNetV2 of that scale, is trained for as many epochs as the meta-graph
was in all three stages, with the settings of the final training (`search.options.baseline`); its
latency is measured by the pipeline's own step, image by image in turn with the routed network.
Compared with them: the same policies assigned to other images, and the control of the search in the
seed of `--with-control`. Writes docs/results/instanas.{json,md}. A finished run is not repeated.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from nas_runs import nas

from nascore.latency.benchmark import device_name

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SETTINGS = Path(__file__).parent / "instanas.yaml"


def run_once(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the pipeline once, with the reference network."""
    out = arguments.work / str(seed)
    if not (out / "result.json").exists():
        settings = {
            "seed": seed,
            "data.source": arguments.data,
            "search.control": "true" if seed == arguments.with_control else "false",
            "tracking.uri": f"sqlite:///{out}/mlflow.db",
        }
        resume = ["--resume"] if (out / "config.json").exists() else []
        given = [str(SETTINGS), *(f"--set={key}={value}" for key, value in settings.items())]
        nas("run", f"--out={out}", *(resume or given))
    result = json.loads((out / "result.json").read_text())
    model = json.loads((out / "state/train_final/outputs/model/model.json").read_text())
    latency = json.loads((out / "state/profile_latency/outputs/latency").read_text())
    print(f"seed {seed}: test accuracy {result['test_accuracy']:.4f}", file=sys.stderr)
    return {
        "seed": seed,
        "test_accuracy": result["test_accuracy"],
        "latency_ms": latency["p50_ms"],
        "per_image": latency["per_image"],
        "verdict": result["verdict"],
        "seconds": result["seconds"],
        "instanas": model["details"]["instanas"],
    }


# --- writing ----------------------------------------------------------------------------------


def markdown(document: Mapping[str, Any]) -> str:
    runs = document["runs"]
    lines = [
        "# InstaNAS against MobileNetV2 of the same scale",
        "",
        f"{document['date']}, {document['device']}, seeds {document['seeds']}, "
        f"{document['images']}; settings in `benchmarks/instanas.yaml`. Renewed by",
        "",
        "    python benchmarks/instanas.py --data npz:CIFAR10.npz",
        "",
        "Latencies are medians of single images, measured in turn, controller included; the last",
        "row is the mean over seeds. Accuracies are of the test images, percent.",
        "",
        "| seed | InstaNAS | other images' policies | MobileNetV2 | ms | MobileNetV2, ms | "
        "saving | batch of 256 | policies | minutes |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [_row(one) for one in runs]
    means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    for name, row in [*((str(one["seed"]), _row(one)) for one in runs), ("mean", means)]:
        ours, shuffled, theirs, ms, other, saving, batch, policies, minutes = row
        lines.append(
            f"| {name} | {ours:.2f} | {shuffled:.2f} | {theirs:.2f} | {ms:.2f} | {other:.2f} | "
            f"{saving:.1f} % | {batch:.1f}x | {policies:.0f} | {minutes:.1f} |"
        )
    lines += ["", "## Points", "", "| seed | point | ms by the table | tuned, % | policies |"]
    lines += ["| ---: | --- | ---: | ---: | ---: |"]
    for one in runs:
        chosen = one["instanas"]["point"]["name"]
        lines += [
            f"| {one['seed']} | {point['name']}{' (taken)' if point['name'] == chosen else ''} | "
            f"{point['latency']:.2f} | {100 * (point['valid_accuracy'] or 0):.1f} | "
            f"{point['num_distinct']} |"
            for point in one["instanas"]["front"]
        ]
    lines += ["", "## Verdicts", ""]
    lines += [f"- seed {one['seed']}: {one['verdict']['statement']}" for one in runs]
    return "\n".join(lines) + "\n"


def _row(one: Mapping[str, Any]) -> Sequence[float]:
    per_image, details = one["per_image"], one["instanas"]
    return (
        100 * one["test_accuracy"],
        100 * details["shuffled"]["test_accuracy"],
        100 * one["instanas"]["baseline"]["test_accuracy"],
        one["latency_ms"],
        per_image["baseline_ms"],
        100 * per_image["saving"],
        per_image["batch_speedup"],
        details["policies"]["num_distinct"],
        one["seconds"]["total"] / 60,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="data.source of CIFAR-10")
    parser.add_argument("--images", default="CIFAR-10 at 16x16", help="description of --data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--with-control", type=int, help="seed that also runs the control")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--work", type=Path, default=Path("runs/instanas"))
    arguments = parser.parse_args()
    arguments.work = arguments.work.absolute()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda seed: run_once(seed, arguments), seeds))
    document = {
        "version": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device_name(torch.device('cpu'))}, {os.cpu_count()} cores",
        "images": arguments.images,
        "seeds": list(seeds),
        "runs": runs,
    }
    (RESULTS / "instanas.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "instanas.md").write_text(markdown(document))
    print(markdown(document))


if __name__ == "__main__":
    main()
