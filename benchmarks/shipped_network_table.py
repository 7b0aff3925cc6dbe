"""Tables of benchmarks/shipped_network.py: means over seeds with paired tests, and each cell."""

import json
import math
from argparse import Namespace
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from nascore.latency.benchmark import device_name
from nascore.reference.recommendation import Contender, recommend

Cell = dict[str, Any]
Cells = Mapping[tuple[str, int, str], Cell]
"""Finished cells by data set, seed and arm."""
DATA = ("digits", "cifar10", "alphabets")
ARMS = ("found", "standard", "control", "pretrained")


def seconds_of(cell: Cell) -> float:
    """Return the processor time of a cell."""
    return float(cell.get("search_s", 0.0) + cell["final_s"])


def compared(own: list[Cell], found: list[Cell]) -> list[str]:
    """Return the columns of the accuracy of `found` against another arm, over equal seeds."""
    gains = accuracies(found) - accuracies(own)
    tests = [
        stats.wilcoxon(gains, alternative=way).pvalue if gains.any() else math.nan
        for way in ("greater", "less")
    ]
    counts = f"{(gains > 0).sum()} / {(gains < 0).sum()}"
    return [f"{100 * gains.mean():+.2f}", counts, *(f"{p:.3f}" for p in tests)]


def accuracies(cells: list[Cell]) -> NDArray[np.float64]:
    """Return the test accuracies of cells."""
    return np.array([cell["test_accuracy"] for cell in cells])


def means(cells: Cells, data: str) -> Iterator[str]:
    """Yield the rows of a data set in the table of means."""
    for arm in ARMS:
        seeds = sorted(seed for key, seed, own in cells if (key, own) == (data, arm))
        own = [cells[data, seed, arm] for seed in seeds]
        if not own:
            continue
        params, latency = (np.median([one[key] for one in own]) for key in ("params", "latency_ms"))
        row = [data, arm, str(len(own)), f"{accuracies(own).mean():.4f}"]
        row += [f"{np.median([*map(seconds_of, own)]):.0f}", f"{params:,.0f}", f"{latency:.2f}"]
        found = [cells[data, seed, "found"] for seed in seeds]
        row += [""] * 4 if arm == "found" else compared(own, found)
        yield f"| {' | '.join(row)} |"


def recommendations(cells: Cells, data: str) -> str | None:
    """Return the row of the networks that the rule of the pipeline recommends."""
    seeds = sorted(seed for key, seed, own in cells if (key, own) == (data, "standard"))
    if not seeds:
        return None
    standard = [cells[data, seed, "standard"] for seed in seeds]
    pairs = [{arm: cells[data, seed, arm] for arm in ("found", "standard")} for seed in seeds]
    ships = [pair[recommended(pair)] for pair in pairs]
    share = f"{sum(cell['arm'] == 'found' for cell in ships)} of {len(ships)}"
    row = [data, share, f"{accuracies(ships).mean():.4f}", *compared(standard, ships)]
    return f"| {' | '.join(row)} |"


def recommended(pair: Mapping[str, Cell]) -> str:
    """Return the arm whose network the pipeline would register, by the validation images."""
    contenders = []
    for arm, cell in pair.items():
        right_N = np.array([int(one) for one in cell["valid_right"]])
        answers_N2 = np.stack([right_N, 1 - right_N], axis=1)  # class 0 is the right one
        contenders.append(Contender(arm, float(right_N.mean()), cell["latency_ms"], answers_N2))
    labels_N, rng = np.zeros(len(right_N), dtype=int), np.random.default_rng(0)
    return recommend(contenders, labels_N, objective="accuracy", rng=rng).ship


def single(cell: Cell) -> str:
    """Return the row of one cell."""
    row = [cell["data"], str(cell["seed"]), cell["arm"], f"{cell['test_accuracy']:.4f}"]
    row += [f"{cell.get('search_s', 0.0):.0f} + {cell['final_s']:.0f}", f"{cell['updates']:,}"]
    row += [f"{cell['params']:,}", f"{cell['macs'] / 1e6:.1f}", f"{cell['latency_ms']:.2f}"]
    network = cell.get("network")
    return f"| {' | '.join([*row, '' if network is None else f'`{network}`'])} |"


def write(cells: Cells, arguments: Namespace, *, about: str) -> None:
    """Write the results of all cells.

    Args:
        cells: of any data sets, seeds and arms.
        arguments: command line, of which the page has the settings.
        about: description of the cells.
    """
    order = sorted(cells, key=lambda one: (DATA.index(one[0]), one[1], ARMS.index(one[2])))
    out: Path = arguments.out
    rows = [cells[one] for one in order]
    (out / "shipped_network.json").write_text(json.dumps(rows, indent=1) + "\n")
    own = [f"--method {arguments.method}", *(f"--set {one}" for one in arguments.set)]
    shipped = [recommendations(cells, data) for data in DATA]
    columns = "points | better / worse | p better | p worse |"
    text = [
        "# The network that a search ships, and the standard network",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {device_name(torch.device('cpu'))}, one thread, method "
        f"`{arguments.method}`. Renewed by",
        "",
        f"    NAS_TEST_DATA=FOLDER python benchmarks/shipped_network.py {' '.join(own)}",
        "",
        *about.splitlines(),
        "",
        "Test accuracy, mean over seeds; processor time in seconds, parameters and latency in",
        "milliseconds, medians. Points: accuracy of the found network minus that of the arm, and",
        "over how many seeds it is better or worse; one-sided p values of Wilcoxon's signed-rank",
        "test over pairs of equal seed, of the found network being better and of it being worse:",
        "",
        f"| data | arm | seeds | accuracy | s | parameters | ms | {columns}",
        "| --- | --- |" + " ---: |" * 9,
        *(row for data in DATA for row in means(cells, data)),
        "",
        "What the pipeline recommends of `found` and `standard` by the validation images, and thus",
        "registers; points and tests against `standard`:",
        "",
        f"| data | of these found | accuracy | {columns}",
        "| --- |" + " ---: |" * 6,
        *(row for row in shipped if row is not None),
        "",
        "Each cell; processor time of search + final training, multiply-adds in millions:",
        "",
        "| data | seed | arm | accuracy | s | updates | parameters | M MACs | ms | found network |",
        "| --- | ---: | --- |" + " ---: |" * 6 + " --- |",
        *map(single, rows),
    ]
    (out / "shipped_network.md").write_text("\n".join(text) + "\n")
