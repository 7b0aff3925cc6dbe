"""ENAS with memory, without, and random search with shared weights, over seeds.

    python benchmarks/memory_enas.py --data npz:CIFAR10.npz --table nasbench201_cifar10.csv.gz

Every seed and method is a complete run of the search pipeline (`nas run`) in the cell of
NAS-Bench-201, and `nas diagnose` examines its controller: random initial weights, ENAS and
memory-ENAS on one fixed set of architectures. The architecture of the final training is looked up
in the table. The first seed also runs the control of each method and gives the verdict of one run;
the methods are compared over seeds. Writes docs/results/memory_enas.{json,md,svg}.

Finished runs are not repeated: call it again after an interruption.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from nas_runs import nas

from nascore.figures.chart import PALETTE, Chart
from nascore.latency.benchmark import device_name
from nascore.tabular_benchmark.statistics import permutation_p
from nascore.tabular_benchmark.table import Table, read_table

RESULTS = Path(__file__).parent.parent / "docs" / "results"
METHODS = ("memory-enas", "enas", "random-ws")
ARMS = ("random initial weights", "ENAS", "memory-ENAS")
SETTINGS = {
    "data.image_size": 16,
    "search.budget.steps": 2400,
    "training.crop_padding": 2,
    "training.flip": "true",
}
WITH_CONTROLLER = {"search.options.controller_every": 2}
# What is read off a controller, by the words of the table: larger means that it remembers more.
MEASURES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "Spearman with edit distance": lambda d: _spearman(d, "edit"),
    "Spearman with Hamming distance": lambda d: _spearman(d, "hamming"),
    "Spearman with Weisfeiler-Lehman": lambda d: _spearman(d, "weisfeiler-lehman"),
    "first token, above chance": lambda d: _gain(d["token_probes"][0]),
    "first token in noise, above chance": lambda d: _gain(d["noisy_token_probes"][0]),
    "mean KL of the policy, nats": lambda d: _mean(d["conditioning"]["mean_kl"]),
    "identical prefixes, edit distance": lambda d: d["same_prefix"]["edit"]["difference"],
}
_COLOURS = ("#8a8a8a", "#d1731c", "#1f6fb4")


def _spearman(diagnosis: Mapping[str, Any], distance: str) -> float:
    found = diagnosis["correlations"]["euclidean"][distance]
    return 0.0 if found is None else float(found["spearman"])


def _gain(probe: Mapping[str, float]) -> float:
    return probe["accuracy"] - probe["chance"]


def _mean(values: Sequence[float | None]) -> float:
    return statistics.fmean(value for value in values if value is not None)


# --- runs -------------------------------------------------------------------------------------


def run_once(method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the pipeline once, and `nas diagnose`; return the measures."""
    out = arguments.work / f"{method}-{seed}"
    settings = {
        **SETTINGS,
        **({} if method == "random-ws" else WITH_CONTROLLER),
        "method": method,
        "seed": seed,
        "data.source": arguments.data,
        "search.control": "true" if seed == arguments.first_seed else "false",
        "tracking.uri": f"sqlite:///{out}/mlflow.db",
        **dict(pair.split("=", 1) for pair in arguments.set),
    }
    if not (out / "result.json").exists():
        resume = ["--resume"] if (out / "config.json").exists() else []
        given = [] if resume else [f"--set={key}={value}" for key, value in settings.items()]
        nas("run", f"--out={out}", *resume, *given)
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    ranked = json.loads((out / "state" / "search" / "search_result.json").read_text())
    found = {
        "method": method,
        "seed": seed,
        "genotype": result["genotype"],
        "test_accuracy": result["test_accuracy"],
        "valid_accuracy": result["search_valid_accuracy"],
        "verdict": result["verdict"],
        "seconds": result["seconds"],
        "first_of_ranking": ranked["arm"]["children"][0]["genotype"],
    }
    if method != "random-ws":
        if not (out / "diagnosis.json").exists():
            table = [f"--table={arguments.table}", "--search-metric=c10_valid"]
            nas("diagnose", str(out), *table)
        found["diagnosis"] = json.loads((out / "diagnosis.json").read_text())
    print(f"{method}, seed {seed}: test accuracy {result['test_accuracy']:.4f}", file=sys.stderr)
    return found


# --- what came out ----------------------------------------------------------------------------


def arms_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return the values of each measure by arm, one for each seed."""

    def values(method: str, when: str) -> dict[str, list[float]]:
        seen = [one["diagnosis"][when] for one in runs if one["method"] == method]
        return {name: [measure(one) for one in seen] for name, measure in MEASURES.items()}

    return {
        ARMS[0]: values("enas", "initial"),
        ARMS[1]: values("enas", "now"),
        ARMS[2]: values("memory-enas", "now"),
    }


def in_table(table: Table, genotype: Mapping[str, Any]) -> float:
    """Test accuracy of an architecture that was trained on all of CIFAR-10, percent."""
    return table.rows[tuple(genotype["tokens"])][1]


def searches_of(
    runs: Sequence[Mapping[str, Any]], table: Table
) -> dict[str, dict[str, list[float]]]:
    found = {}
    for method in METHODS:
        ours = sorted((one for one in runs if one["method"] == method), key=lambda r: r["seed"])
        found[method] = {
            "test accuracy of the run, %": [100 * one["test_accuracy"] for one in ours],
            "c10_test of its architecture": [in_table(table, one["genotype"]) for one in ours],
            "c10_test of the first by shared weights": [
                in_table(table, one["first_of_ranking"]) for one in ours
            ],
            "minutes": [one["seconds"]["total"] / 60 for one in ours],
        }
    return found


def supernet_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the rank correlation of shared-weight accuracies with the table, by method."""
    found: dict[str, list[float]] = {}
    for one in runs:
        weights = one.get("diagnosis", {}).get("shared_weights", {})
        if weights:
            found.setdefault(one["method"], []).append(weights["method"]["spearman"])
        if "control" in weights:
            found.setdefault("random-ws", []).append(weights["control"]["spearman"])
    return found


# --- writing ----------------------------------------------------------------------------------


def markdown(document: Mapping[str, Any], table: Table) -> str:
    states, searches = document["states"], document["searches"]
    best = max(row[1] for row in table.rows.values())
    lines = [
        "# memory-ENAS over seeds",
        "",
        f"{document['date']}, {document['device']}, seeds {document['seeds'][0]} to "
        f"{document['seeds'][-1]}, {document['images']}. Renewed by",
        "",
        "    python benchmarks/memory_enas.py --data npz:CIFAR10.npz "
        "--table nasbench201_cifar10.csv.gz",
        "",
        "## What the controller remembers",
        "",
        "Median over seeds, lowest and highest in brackets, on one fixed set of architectures.",
        "",
        f"| measure | {' | '.join(ARMS)} |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in MEASURES:
        cells = [_cell(states[arm][name], 2) for arm in ARMS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "![Three measures by arm, one dot a seed](memory_enas.svg)",
        "",
        "The encoding loss asks for just this: the rise says that the state encodes the past, not",
        "that the search is better for it. That is the next table.",
        "",
        "## What the searches found",
        "",
        "Means and standard deviations over seeds; c10_test, percent, is of a network that was",
        f"trained on all of CIFAR-10 for the benchmark ({table.name}; the best has {best:.2f}).",
        "",
        f"| | {' | '.join(METHODS)} |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name in searches[METHODS[0]]:
        lines.append(f"| {name} | {' | '.join(_spread(searches[m][name]) for m in METHODS)} |")
    lines += ["", "| c10_test of the architecture, paired over seeds | mean difference | p |"]
    lines += ["| --- | ---: | ---: |"]
    lines += [
        f"| {one['a']} against {one['b']} | {one['difference']:+.2f} | {one['p']:.2f} |"
        for one in document["tests"]
    ]
    lines += ["", "Verdicts of the runs with a control (first seed):", ""]
    lines += [f"- {method}: {outcome}" for method, outcome in document["verdicts"].items()]
    weights = [f"{m} {_cell(values, 2)}" for m, values in document["supernet"].items()]
    lines += [
        "",
        "Spearman of accuracy with shared weights and c10_valid, 100 architectures: "
        f"{'; '.join(weights)}.",
    ]
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _spread(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {spread:.2f}"


def figure(states: Mapping[str, Mapping[str, Sequence[float]]]) -> Chart:
    """Draw the measures side by side, a dot for each seed and a line at the median."""
    shown = [name for name in MEASURES if name.startswith(("Spearman with edit", "first token"))]
    drawing = Figure(figsize=(10, 4.5), layout="constrained")
    for name, axes in zip(shown, drawing.subplots(1, len(shown), squeeze=False)[0], strict=True):
        axes.set_title(name, loc="left", fontsize=8)
        axes.grid(axis="y", color=PALETTE["line"])
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xticks(range(len(ARMS)), [arm.removesuffix(" initial weights") for arm in ARMS])
        axes.tick_params(length=0, labelsize=8)
        for place, (arm, colour) in enumerate(zip(ARMS, _COLOURS, strict=True)):
            values = states[arm][name]
            axes.plot([place] * len(values), values, "o", color=colour, alpha=0.6)
            median = statistics.median(values)
            axes.plot([place - 0.2, place + 0.2], [median, median], color=colour)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    text = "; ".join(
        f"{name}: " + ", ".join(f"{arm} {statistics.median(states[arm][name]):.2f}" for arm in ARMS)
        for name in shown
    )
    return Chart(drawing, "states", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="data.source of CIFAR-10")
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201 as CSV")
    parser.add_argument("--images", default="CIFAR-10 at 16x16", help="description of --data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--work", type=Path, default=Path("runs/memory_enas"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    arguments.work = arguments.work.absolute()
    table = read_table(
        arguments.table, "nasbench201", search_metric="c10_valid", report_metric="c10_test"
    )
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    wanted = [(method, seed) for seed in seeds for method in METHODS]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = list(pool.map(lambda one: run_once(one[0], one[1], arguments), wanted))
    searches = searches_of(runs, table)
    column = "c10_test of its architecture"
    pairs = [("memory-enas", "enas"), ("memory-enas", "random-ws"), ("enas", "random-ws")]
    document = {
        "version": 1,
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{device_name(torch.device('cpu'))}, {os.cpu_count()} cores",
        "images": arguments.images,
        "seeds": list(seeds),
        "settings": {**SETTINGS, **WITH_CONTROLLER},
        "states": arms_of(runs),
        "searches": searches,
        "supernet": supernet_of(runs),
        "tests": [
            {
                "a": a,
                "b": b,
                "difference": float(np.mean(searches[a][column]) - np.mean(searches[b][column])),
                "p": permutation_p(np.subtract(searches[a][column], searches[b][column])),
            }
            for a, b in pairs
        ],
        "verdicts": {
            one["method"]: one["verdict"]["statement"] for one in runs if one["verdict"] is not None
        },
    }
    (RESULTS / "memory_enas.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "memory_enas.md").write_text(markdown(document, table))
    figure(document["states"]).save(RESULTS / "memory_enas.svg")
    print(markdown(document, table))


if __name__ == "__main__":
    main()
