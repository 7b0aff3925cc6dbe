"""A defect in 5 of 200 images: does a search by balanced accuracy find more of the defects?

    python benchmarks/rare_class.py

The images are scikit-learn's digits at 16x16 with noise; a defect is a short scratch, and three of
ten images, fine ones too, have a harmless one in the other direction. So networks that look for
defects raise false alarms, and those that never do are more often right. Training and validation
split have 200 images with 5 defects each, the test split 1,000 with 200, so that its recall has
steps of half a point. Two arms a seed, random search with the same children, seeds and settings,
which differ in `search.objective` alone; the loss follows the objective (`training.class_weights:
auto`), so that rare classes weigh more in the second. The chosen architecture is trained from
scratch and tested as in a run of the pipeline. The arms are compared
by Wilcoxon's signed-rank test over the seeds. Writes docs/results/rare_class.{json,md}.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.datasets import load_digits

from components.config.schema import parse
from components.steps.context_builder import StepInputs, build_context
from nascore.data.prepared import prepare
from nascore.latency.benchmark import device_name
from nascore.methods.registry import METHODS

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SPLITS = {"train": (200, 5), "valid": (200, 5), "test": (1000, 200)}
OBJECTIVES = ("accuracy", "balanced_accuracy")
CONTRAST, HARMLESS = 150, 0.3
NOTE = """
The seeds were fixed before the first run with these settings. Before it, with
`training.class_weights: balanced` in both arms, seeds 10 to 17, so that the objective only chose
among the same children: mean recall 17.8 % by accuracy and 27.4 % by balanced accuracy, higher in
3 and lower in 4 of 8 seeds, p = 0.34, not shown. Five validation defects are too few to choose
between architectures; what the objective gives here is the loss that follows it.
"""
FIGURES = ("recall of the defects", "balanced accuracy", "accuracy")


def make_data(path: Path, seed: int) -> None:
    """Return other images, defects and noise for each seed; no digit is in two splits."""
    rng = np.random.default_rng(seed)
    digits = load_digits().images
    order, start = rng.permutation(len(digits)), 0
    arrays: dict[str, NDArray[Any]] = {}
    for split, (count, defects) in SPLITS.items():
        images = np.kron(digits[order[start : start + count]], np.ones((2, 2))) * 12
        labels = np.zeros(count, int)
        labels[rng.permutation(count)[:defects]] = 1
        for place in range(count):
            if labels[place]:
                scratch(images[place], rng)
            if rng.random() < HARMLESS:
                scratch(images[place][:, ::-1], rng)
        images += rng.normal(0, 15, images.shape)
        arrays[f"x_{split}"] = images.clip(0, 255).astype(np.uint8)[:, None]
        arrays[f"y_{split}"] = labels
        start += count
    arrays["classes"] = np.array(["fine", "defect"])
    np.savez(path, allow_pickle=False, **arrays)


def scratch(image: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw five diagonal pixels, bright on dark and dark on bright images."""
    y, x = rng.integers(2, 9, 2)
    along = np.arange(5)
    pixels = (y + along, x + along)
    image[pixels] += np.where(image[pixels] > 100, -CONTRAST, CONTRAST)


def run_once(data: Path, seed: int, objective: str, folder: Path) -> dict[str, Any]:
    """Run one search and final training, as the steps of the pipeline do."""
    child = {"batch_size": 32, "lr": 0.02}
    config = parse(
        {
            "method": "random",
            "seed": seed,
            "data": {"source": f"npz:{data}"},
            "search": {
                "budget": {"children": 8},
                "control": False,
                "objective": objective,
                "space": {"name": "chain", "num_layers": 4},
                "child": {**child, "epochs": 8},
            },
            "train": {**child, "epochs": 16},
            "training": {"crop_padding": 2},
        }
    )
    prepare(config.data, seed, folder / "data")
    inputs = StepInputs(
        config=config,
        dataset=folder / "data",
        controller=folder,
        state=folder,
        run_key=objective,
    )
    task = build_context(inputs)
    method = METHODS["random"].load()
    result = method.search(task)
    final = method.train_final(task, result)
    assert final.figures is not None
    chosen = max(child.score or 0.0 for child in result.arm.children)
    return {
        "genotype": result.genotype.short_hash,
        "score in the search": chosen,
        "recall of the defects": final.figures["per_class"]["defect"]["recall"],
        "balanced accuracy": final.figures["balanced_accuracy"],
        "accuracy": final.test_accuracy,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    heads = [f"{figure}, by {how}" for figure in FIGURES for how in ("accuracy", "balanced")]
    lines = [f"| seed | {' | '.join(heads)} | same architecture |"]
    lines.append("| ---: |" + " ---: |" * 6 + " --- |")
    for row in rows:
        cells = [f"{100 * row[o][f]:.1f}" for f in FIGURES for o in OBJECTIVES]
        same = row["accuracy"]["genotype"] == row["balanced_accuracy"]["genotype"]
        lines.append(f"| {row['seed']} | {' | '.join(cells)} | {'yes' if same else 'no'} |")
    means = [f"{100 * np.mean([r[o][f] for r in rows]):.1f}" for f in FIGURES for o in OBJECTIVES]
    return [*lines, f"| mean | {' | '.join(means)} | |"]


def compared(rows: list[dict[str, Any]], figure: str) -> str:
    gains = [row["balanced_accuracy"][figure] - row["accuracy"][figure] for row in rows]
    line = f"- {figure}: {100 * np.mean(gains):+.1f} points in the mean, higher in "
    higher, lower = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    line += f"{higher}, lower in {lower} of {len(gains)} seeds"
    if not any(gains):
        return f"{line}."
    p = stats.wilcoxon(gains, alternative="greater").pvalue
    return f"{line}; one-sided p = {p:.3g}, {'' if p < 0.05 else 'not '}significant at 5 %."


def write(rows: list[dict[str, Any]], out: Path, minutes: float) -> None:
    (out / "rare_class.json").write_text(json.dumps(rows, indent=1) + "\n")
    text = [
        "# Five defects in two hundred images",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {device_name(torch.device('cpu'))}, one thread, "
        f"{minutes:.0f} minutes on a busy machine, seeds {rows[0]['seed']} to {rows[-1]['seed']}. "
        "Renewed by",
        "",
        "    python benchmarks/rare_class.py",
        "",
        *(__doc__ or "").partition("rare_class.py\n\n")[2].strip().splitlines(),
        "",
        "Percent on the test images, of the chosen architecture trained from scratch:",
        "",
        *table(rows),
        "",
        "Balanced accuracy as the objective, against accuracy, paired by seed:",
        "",
        *(compared(rows, figure) for figure in FIGURES),
        *NOTE.rstrip().splitlines(),
    ]
    (out / "rare_class.md").write_text("\n".join(text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    start, rows = time.perf_counter(), []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    for seed in seeds:
        row: dict[str, Any] = {"seed": seed}
        with TemporaryDirectory() as name:
            make_data(Path(name) / "data.npz", seed)
            for objective in OBJECTIVES:
                folder = Path(name) / objective
                folder.mkdir()
                row[objective] = run_once(Path(name) / "data.npz", seed, objective, folder)
        print(json.dumps(row), flush=True)
        rows.append(row)
    write(rows, arguments.out, (time.perf_counter() - start) / 60)


if __name__ == "__main__":
    main()
