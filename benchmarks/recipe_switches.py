"""What each switch of the final recipe changes: accuracy and processor time, paired by seed.

    NAS_TEST_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/recipe_switches.py

A cell trains the standard network of the space `residual` (two basic blocks a stage, 3x3) on 2,000
images of CIFAR-10, of which a tenth is held out, and evaluates it on 1,000 test images, all scaled
to 16x16. The base is the recipe `paper` with random crops and mirroring; each other row is the base
with one switch, or a whole recipe. Cells of one seed share initial weights and the order of the
images. The number of weight updates is the same in all rows, so a row costs what its updates cost.

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
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch
from scipy import stats

from nascore.config import DataConfig, TrainingConfig
from nascore.config.recipes import SWITCHES
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
BASE = {"crop_padding": 2, "flip": True, "lr": 0.1, "batch_size": 64}
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
    "patience 5": {"patience": 5},
    "progressive_resizing 0.5": {"progressive_resizing": 0.5},
    "channels_last": {"channels_last": True},
    "precision bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "recipe quick": {"recipe": "quick"},
    "recipe strong": {"recipe": "strong"},
}
"""Settings of each row in addition to those of the base."""
Cell = dict[str, Any]


def run_cell(row: str, seed: int, splits: Splits, length: Mapping[str, Any]) -> Cell:
    """Train one network and evaluate it on the test images."""
    info, seeds = splits.info, Seeds(seed)
    space = make_space(ResidualSpaceConfig(channels=length["channels"]))
    shape = ImageShape(info.channels, info.size, len(info.classes))
    weights = seeds.integer("weights")
    network = build_network(space, space.standard, shape, seed=weights, final=True)
    network = network.to(splits.train.device)
    config = TrainingConfig(**{**BASE, "epochs": length["epochs"], **ROWS[row]})
    start, cpu = time.perf_counter(), time.process_time()
    training = train(
        network, splits.train, config, generator=seeds.torch("batches"), valid=splits.valid
    )
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {
        "row": row,
        "seed": seed,
        "settings": digest(row, length),
        "test_accuracy": evaluate(flip_averaged(network, config), splits.test),
        "train_accuracy": training.train_accuracy[-1],
        "updates": training.num_steps,
        "cpu_s": cpu_s,
        "seconds": seconds,
        "messages": list(training.messages),
    }


def digest(row: str, length: Mapping[str, Any]) -> str:
    """Return a digest of the settings of a cell; cells of other settings are not used.

    Settings that no row changes are not in it, so that a new setting does not invalidate cells.
    """
    names = {*SWITCHES, *BASE, *(name for settings in ROWS.values() for name in settings)}
    config = TrainingConfig(**{**BASE, **ROWS[row]}).model_dump(mode="json", include=names)
    return hashlib.sha256(json.dumps([config, dict(length)], sort_keys=True).encode()).hexdigest()


def read_cells(path: Path, length: Mapping[str, Any]) -> dict[tuple[str, int], Cell]:
    """Return the finished cells of these settings by row and seed."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [json.loads(line) for line in lines]
    return {
        (cell["row"], cell["seed"]): cell
        for cell in cells
        if cell["row"] in ROWS and cell["settings"] == digest(cell["row"], length)
    }


def compare(cells: Mapping[tuple[str, int], Cell], row: str) -> dict[str, Any] | None:
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


def write_table(cells: Mapping[tuple[str, int], Cell], length: Mapping[str, Any]) -> None:
    """Write the JSON and the Markdown of the results."""
    rows = [found for row in ROWS if (found := compare(cells, row)) is not None]
    about = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "length": dict(length),
        "base": BASE,
    }
    path = RESULTS / "recipe_switches.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    lines = [
        "# Switches of the final recipe",
        "",
        f"{about['date']}, {about['device']}, torch {about['torch']}. Standard network of the "
        f"space `residual` with {length['channels']} channels, {length['epochs']} epochs, 2,000 "
        f"images of CIFAR-10 at {length['size']}x{length['size']}; accuracy on 1,000 test images "
        "in percent, difference to the base with its standard error, p of the paired t-test, "
        "processor time relative to the base. Renewed by",
        "",
        "    NAS_TEST_DATA=FOLDER OMP_NUM_THREADS=1 python benchmarks/recipe_switches.py",
        "",
        "| row | seeds | accuracy | difference | p | processor time |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| `{one['row']}` | {len(one['seeds'])} | {one['test_accuracy']:.2f} "
        f"| {one['difference']:+.2f} ± {one['standard_error']:.2f} | {one['p_value']:.3f} "
        f"| {one['cpu_ratio']:.2f} |"
        for one in rows
    ]
    (RESULTS / "recipe_switches.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def run_all(
    rows: Sequence[str], seeds: Sequence[int], path: Path, length: Mapping[str, Any]
) -> None:
    """Run the cells that are not in the file yet, and append each as a line."""
    folder = Path(os.environ["NAS_TEST_DATA"])
    with TemporaryDirectory() as name:
        data = Path(name) / "data"
        source = f"npz:{folder / PACK}"
        config = DataConfig(source=source, valid_fraction=0.1, image_size=length["size"])
        prepare(config, seed=0, folder=data)
        splits = load(data, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        for seed in seeds:
            for row in rows:
                if (row, seed) in read_cells(path, length):
                    continue
                cell = run_cell(row, seed, splits, length)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(json.dumps(cell) + "\n")
                shown = {name: cell[name] for name in ("row", "seed", "test_accuracy", "cpu_s")}
                print(json.dumps(shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--size", type=int, default=16, help="of the images, in pixels")
    parser.add_argument("--channels", type=int, default=8, help="of the stem and first stage")
    parser.add_argument("--cells", type=Path, default=Path("runs/recipe_switches.jsonl"))
    parser.add_argument("--table", action="store_true", help="write the table and train nothing")
    arguments = parser.parse_args()
    if not arguments.table and "NAS_TEST_DATA" not in os.environ:
        parser.error(f"set NAS_TEST_DATA to a folder with {PACK}")
    length = {name: vars(arguments)[name] for name in ("epochs", "channels", "size")}
    if not arguments.table:
        run_all(arguments.rows, arguments.seeds, arguments.cells, length)
    write_table(read_cells(arguments.cells, length), length)


if __name__ == "__main__":
    main()
