"""What each switch of the final recipe changes: accuracy and processor time, paired by seed.

    NAS_TEST_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/recipe_switches.py

A cell trains the standard network of the space `residual` with 8 channels (two basic blocks a
stage, 3x3) and evaluates it on the test images. The base is the recipe `paper`; each other row is
the base with one switch, or a whole recipe. Cells of one seed share initial weights and the order
of the images. The number of weight updates is the same in all rows, so a row costs what its updates
cost. Experiments:

- long: 2,000 images of CIFAR-10, of which a tenth is held out, scaled to 16x16, with random crops
  and mirroring; 128 epochs in batches of 64 images, about as many updates as the quick presets
- short: the same for 60 epochs
- digits: the whole recipes on the digits of scikit-learn, for as many updates as the quick presets

Finished cells are in a file of JSON lines and are not repeated: several processes may share the
file, each with some of the seeds (`--seeds 0 1 2 3` and `--seeds 4 5 6 7`); `--table` writes
docs/results/recipe_switches.{json,md} from whatever cells there are.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy import stats

from nascore.config import DataConfig, TrainingConfig
from nascore.config.recipes import PAPER, SWITCHES, resolve_switches
from nascore.data.batches import Splits, load
from nascore.data.prepared import prepare
from nascore.latency.benchmark import device_name
from nascore.seeding import Seeds
from nascore.spaces.base import ImageShape, make_space
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.training.child import build_network
from nascore.training.flip_averaging import flip_averaged
from nascore.training.loop import train
from nascore.training.prediction import evaluate

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PACK = "cifar10_small_rgb.npz"
CHANNELS = 8
ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "label_smoothing 0.1": {"label_smoothing": 0.1},
    "ema 0.02": {"ema": 0.02},
    "ema 0.1": {"ema": 0.1},
    "warmup_fraction 0.2": {"warmup_fraction": 0.2},
    "min_lr 0": {"min_lr": 0.0},
    "weight_decay 5e-4": {"weight_decay": 5e-4},
    "max_grad_norm 5": {"max_grad_norm": 5.0},
    "test_time_flip": {"test_time_flip": True},
    "auto_augment trivial": {"auto_augment": "trivial"},
    "auto_augment rand": {"auto_augment": "rand"},
    "cutout 4": {"cutout": 4},
    "mixup 0.2": {"mixup": 0.2},
    "cutmix 1.0": {"cutmix": 1.0},
    "optimizer adamw": {"optimizer": "adamw", "lr": 0.003, "min_lr": 0.0},
    "optimizer muon": {"optimizer": "muon", "lr": 0.005, "min_lr": 0.0},
    "channels_last": {"channels_last": True},
    "precision bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "recipe quick": {"recipe": "quick"},
    "recipe strong": {"recipe": "strong"},
}
"""Settings of each row in addition to those of the base."""
RECIPES = ("base", "recipe quick", "recipe strong")
Cell = dict[str, Any]
Cells = Mapping[tuple[str, int], Cell]
"""Finished cells of an experiment by row and seed."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Data, base and rows of an experiment.

    Attributes:
        source: `data.source`, below NAS_TEST_DATA if it is a file.
        size: of the images, in pixels.
        base: settings of all rows.
        rows: names in `ROWS`.
    """

    source: str
    size: int
    base: Mapping[str, Any]
    rows: Sequence[str]

    def config(self, row: str) -> TrainingConfig:
        """Return the training of a row."""
        return TrainingConfig(**{**self.base, **ROWS[row]})

    def digest(self, row: str) -> str:
        """Return a digest of the settings of a row; cells of other settings are not used.

        Switches with the value of `paper` are not in it, so that a new one invalidates no cell.
        """
        given = {**self.base, **ROWS[row]}
        resolved = resolve_switches(given)
        switched = {name: value for name, value in resolved.items() if value != PAPER[name]}
        fixed = {name: given[name] for name in given.keys() - {*SWITCHES, "recipe"}}
        text = json.dumps([fixed, switched, self.source, self.size], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def splits(self, folder: Path) -> Splits:
        """Prepare the data in a folder, and return it."""
        source = self.source
        if source != "digits":
            source = f"npz:{Path(os.environ['NAS_TEST_DATA']) / source}"
        config = DataConfig(source=source, valid_fraction=0.1, image_size=self.size)
        prepare(config, seed=0, folder=folder)
        return load(folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


_CIFAR = {"crop_padding": 2, "flip": True, "lr": 0.1, "batch_size": 64}
_DIGITS = {"crop_padding": 1, "lr": 0.1, "batch_size": 32}
EXPERIMENTS = {
    "long": Experiment(PACK, 16, {**_CIFAR, "epochs": 128}, tuple(ROWS)),
    "short": Experiment(PACK, 16, {**_CIFAR, "epochs": 60}, tuple(ROWS)),
    "digits": Experiment("digits", 8, {**_DIGITS, "epochs": 100, "max_steps": 3600}, RECIPES),
}


def run_cell(experiment: Experiment, row: str, seed: int, splits: Splits) -> Cell:
    """Train one network and evaluate it on the test images."""
    info, seeds, config = splits.info, Seeds(seed), experiment.config(row)
    space = make_space(ResidualSpaceConfig(channels=CHANNELS))
    shape = ImageShape(info.channels, info.size, len(info.classes))
    weights = seeds.integer("weights")
    network = build_network(space, space.standard, shape, seed=weights, final=True)
    network = network.to(splits.train.device)
    start, cpu = time.perf_counter(), time.process_time()
    training = train(
        network, splits.train, config, generator=seeds.torch("batches"), valid=splits.valid
    )
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {
        "row": row,
        "seed": seed,
        "settings": experiment.digest(row),
        "test_accuracy": evaluate(flip_averaged(network, config), splits.test),
        "train_accuracy": training.train_accuracy[-1],
        "updates": training.num_steps,
        "cpu_s": cpu_s,
        "seconds": seconds,
        "messages": list(training.messages),
    }


def read_cells(path: Path, experiment: Experiment) -> dict[tuple[str, int], Cell]:
    """Return the finished cells of an experiment by row and seed."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [json.loads(line) for line in lines]
    digests = {experiment.digest(row): row for row in experiment.rows}
    return {
        (cell["row"], cell["seed"]): cell
        for cell in cells
        if digests.get(cell["settings"]) == cell["row"]
    }


def compare(cells: Cells, row: str) -> dict[str, Any] | None:
    """Return the paired comparison of a row with the base; None below two common seeds."""
    seeds = sorted(seed for name, seed in cells if name == row and ("base", seed) in cells)
    if len(seeds) < 2:
        return None
    ours = [100 * cells[row, seed]["test_accuracy"] for seed in seeds]
    base = [100 * cells["base", seed]["test_accuracy"] for seed in seeds]
    difference = [one - other for one, other in zip(ours, base, strict=True)]
    return {
        "row": row,
        "seeds": seeds,
        "test_accuracy": fmean(ours),
        "difference": fmean(difference),
        "standard_error": stdev(difference) / len(seeds) ** 0.5,
        # No difference at all, as of the base with itself: there is nothing to test.
        "p_value": float(stats.ttest_rel(ours, base).pvalue) if any(difference) else 1.0,
        "cpu_ratio": fmean(
            cells[row, seed]["cpu_s"] / cells["base", seed]["cpu_s"] for seed in seeds
        ),
    }


def write_tables(path: Path) -> None:
    """Write the JSON and the Markdown of the results."""
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
    }
    lines = [
        "# Switches of the final recipe",
        "",
        f"{about['date']}, {about['device']}, torch {about['torch']}, one thread. Renewed by",
        "",
        *(__doc__ or "").partition("paired by seed.\n\n")[2].strip("\n").splitlines(),
        "",
        "Accuracy on the test images in percent, difference to the base with its standard error, p",
        "of the paired t-test, processor time relative to the base.",
    ]
    found = {}
    for name, experiment in EXPERIMENTS.items():
        cells = read_cells(path, experiment)
        rows = [one for row in experiment.rows if (one := compare(cells, row)) is not None]
        found[name] = rows
        lines += ["", f"## {name}", "", *table(rows)]
    text = json.dumps({**about, "experiments": found}, indent=2)
    (RESULTS / "recipe_switches.json").write_text(text + "\n")
    (RESULTS / "recipe_switches.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the comparisons of an experiment as lines of Markdown."""
    return [
        "| row | seeds | accuracy | difference | p | processor time |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| `{one['row']}` | {len(one['seeds'])} | {one['test_accuracy']:.2f} "
            f"| {one['difference']:+.2f} ± {one['standard_error']:.2f} | {one['p_value']:.3f} "
            f"| {one['cpu_ratio']:.2f} |"
            for one in rows
        ),
    ]


def run_all(name: str, rows: Sequence[str], seeds: Sequence[int], path: Path) -> None:
    """Run the cells of an experiment that are not in the file yet, and append each as a line."""
    experiment = EXPERIMENTS[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        splits = experiment.splits(Path(folder) / "data")
        for seed, row in product(seeds, rows):
            if row not in experiment.rows or (row, seed) in read_cells(path, experiment):
                continue
            cell = run_cell(experiment, row, seed, splits)
            with path.open("a") as file:
                file.write(json.dumps(cell) + "\n")
            shown = {key: cell[key] for key in ("row", "seed", "test_accuracy", "cpu_s")}
            print(json.dumps({"experiment": name} | shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    parser.add_argument(
        "--experiments", nargs="+", choices=list(EXPERIMENTS), default=list(EXPERIMENTS)
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--cells", type=Path, default=Path("runs/recipe_switches.jsonl"))
    parser.add_argument("--table", action="store_true", help="write the table and train nothing")
    arguments = parser.parse_args()
    if arguments.table:
        write_tables(arguments.cells)
        return
    if "NAS_TEST_DATA" not in os.environ:
        parser.error(f"set NAS_TEST_DATA to a folder with {PACK}")
    for name in arguments.experiments:
        run_all(name, arguments.rows, arguments.seeds, arguments.cells)


if __name__ == "__main__":
    main()
