"""The network that a search ships, against the standard network of its size at equal total time.

    NAS_TEST_DATA=FOLDER python benchmarks/shipped_network.py

One cell is a data set and a seed. It runs the search and the final training of the quick preset of
a method, on one thread, and measures their processor time T. Then the standard residual network
(two basic blocks a stage, 3x3, batch normalisation, ReLU), with the channels that bring it nearest
to the number of parameters of the found network, is trained from scratch by the same recipe for the
time T. Both are tested once, on the same images. The control of the search, which runs on a second
core, is left out of both.

The time is processor time, since other work on the machine makes wall time longer; so the number of
weight updates of the standard network is computed from the time of its first ones.

Data sets: the digits of scikit-learn (8x8, grey), 2,000 training and 1,000 test images of CIFAR-10
(32x32, colour), and the drawings of six alphabets of Omniglot (28x28, grey), whose class is the
alphabet. The last two are read from the folder NAS_TEST_DATA.

Finished cells are in a file of JSON lines and are not repeated. Writes
docs/results/shipped_network.{json,md}.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from components.steps.context_builder import StepInputs, build_context
from nascore.context import SearchContext
from nascore.data.prepared import prepare
from nascore.genotype import Genotype
from nascore.latency.benchmark import device_name
from nascore.methods.registry import METHODS
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.blocks import Style
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualNetwork, Stage
from nascore.training.final_model import train_network
from nascore.training.loop import train
from pipelines.config import resolve

RESULTS = Path(__file__).parent.parent / "docs" / "results"
DATA: dict[str, tuple[str, ...]] = {
    "digits": (),
    "cifar10": ("training.crop_padding=4", "training.flip=true"),
    "alphabets": ("training.crop_padding=2",),
}
"""Data sets, with settings that differ from the preset; both networks have them."""
_TRIAL_SHARE = 0.03  # of the time, in which the weight updates of the standard network are measured


def write_arrays(data: str, path: Path) -> None:
    """Write one of the data sets of NAS_TEST_DATA as `nascore.data.arrays` reads it."""
    folder = Path(os.environ["NAS_TEST_DATA"])
    if data == "cifar10":
        with np.load(folder / "cifar10_small_rgb.npz") as pack:
            np.savez(path, allow_pickle=False, **pack)
        return
    with np.load(folder / "omniglot_small.npz") as pack:
        pixels = np.unpackbits(pack["packed"], axis=1)[:, : 105 * 105].reshape(-1, 1, 105, 105)
        labels, names = pack["alphabet"].astype(int), pack["alphabet_names"]
    small = F.interpolate(torch.from_numpy(pixels).float(), size=(28, 28), mode="area")
    # Lines are three pixels wide: twice the mean makes them as bright as those of other drawings.
    x = (small * 510).clamp(max=255).byte().numpy()
    np.savez(path, allow_pickle=False, x=x, y=labels, classes=names.astype(str))


def standard_stages(channels: int) -> tuple[Stage, ...]:
    """Return the stages of a standard network, of any width."""
    return tuple(
        Stage(2, channels * 2**place, 3, "basic", squeeze=False, stride=1 + (place > 0))
        for place in range(ResidualSpaceConfig().num_stages)
    )


def standard_of(num_params: int, shape: ImageShape, *, seed: int) -> nn.Module:
    """Return the standard network whose number of parameters is nearest to `num_params`."""

    def build(channels: int) -> nn.Module:
        with seeded_weights(seed):
            return ResidualNetwork(
                standard_stages(channels), Style("batch", "relu"), shape, channels
            )

    networks, channels = [build(2)], 2
    while size_of(networks[-1]) < num_params:
        channels += 1
        networks.append(build(channels))
    return min(networks, key=lambda network: abs(size_of(network) - num_params))


def size_of(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def run_found(context: SearchContext) -> dict[str, Any]:
    """Search, and train the winner, as the steps of the pipeline do."""
    method, begun = METHODS[context.method].load(), time.process_time()
    method.pretrain(context)
    result = method.search(context)
    searched = time.process_time()
    final = method.train_final(context, result)
    return {
        "test_accuracy": final.test_accuracy,
        "params": final.num_params,
        "macs": final.macs,
        "updates": final.num_steps,
        "search_s": searched - begun,
        "final_s": time.process_time() - searched,
        "network": context.space.describe(result.genotype),
        "child_scores": [child.score for child in result.arm.children],
    }


def run_standard(context: SearchContext, num_params: int, seconds: float) -> dict[str, Any]:
    """Train the standard network of a size for a processor time."""

    def new() -> nn.Module:
        seed = context.seeds.integer("standard", "weights")
        return standard_of(num_params, context.shape, seed=seed)

    updates = round(seconds / seconds_of_update(context, new(), _TRIAL_SHARE * seconds))
    length = {"max_steps": updates, "epochs": updates}
    context = replace(context, final=context.final.model_copy(update=length))
    begun = time.process_time()
    model = train_network(context, new(), Genotype("standard", ()))
    return {
        "test_accuracy": model.test_accuracy,
        "params": model.num_params,
        "macs": model.macs,
        "updates": model.num_steps,
        "final_s": time.process_time() - begun,
    }


def seconds_of_update(context: SearchContext, network: nn.Module, trial_s: float) -> float:
    """Return the processor time of an update with its share of evaluations.

    Args:
        context: data and recipe.
        network: is trained, and of no use afterwards.
        trial_s: least processor time of the measurement.
    """
    updates, spent_s = 8, 0.0
    while spent_s < trial_s:
        updates, begun = 2 * updates, time.process_time()
        length = {"max_steps": updates, "epochs": updates}
        train(
            network,
            context.splits.train,
            context.final.model_copy(update=length),
            generator=torch.Generator().manual_seed(0),
            valid=context.splits.valid,
        )
        spent_s = time.process_time() - begun
    return spent_s / updates


def run_cell(data: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both arms of a data set and a seed."""
    with TemporaryDirectory() as name:
        folder, source = Path(name), data
        if data != "digits":
            write_arrays(data, folder / "data.npz")
            source = f"npz:{folder / 'data.npz'}"
        settings = [f"method={arguments.method}", f"seed={seed}", f"data.source={source}"]
        settings += ["search.control=false", "training.device=cpu", *DATA[data], *arguments.set]
        config = resolve(None, "quick", settings)
        prepare(config.data, seed, folder / "data")
        inputs = StepInputs(
            config=config,
            dataset=folder / "data",
            controller=folder,
            state=folder,
            run_key="shipped",
        )
        context = build_context(inputs)
        found = run_found(context)
        seconds = found["search_s"] + found["final_s"]
        standard = run_standard(context, found["params"], seconds)
    return {"data": data, "seed": seed, "found": found, "standard": standard}


def missing(
    cells: list[dict[str, Any]], arguments: argparse.Namespace
) -> Iterator[tuple[str, int]]:
    """Yield the data sets and seeds that have no cell, the seeds of all data sets in turn."""
    done = {(cell["data"], cell["seed"]) for cell in cells}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        yield from ((data, seed) for data in arguments.data if (data, seed) not in done)


def compared(cells: list[dict[str, Any]], data: str) -> str:
    """Return a row of the table of means, with paired tests in both directions."""
    found, standard = (
        np.array([cell[arm]["test_accuracy"] for cell in cells]) for arm in ("found", "standard")
    )
    gains = found - standard
    tests = [
        stats.wilcoxon(gains, alternative=way).pvalue if gains.any() else math.nan
        for way in ("greater", "less")
    ]
    params = np.median([cell["found"]["params"] for cell in cells])
    row = [data, str(len(cells)), f"{params:,.0f}", f"{found.mean():.4f}", f"{standard.mean():.4f}"]
    row += [f"{100 * gains.mean():+.2f}", f"{(gains > 0).sum()} / {(gains < 0).sum()}"]
    return f"| {' | '.join([*row, *(f'{p:.3f}' for p in tests)])} |"


def single(cell: dict[str, Any]) -> str:
    """Return the row of one cell."""
    found, standard = cell["found"], cell["standard"]
    row = [cell["data"], str(cell["seed"]), f"`{found['network']}`"]
    for arm in (found, standard):
        row += [f"{arm['params']:,}", f"{arm['macs'] / 1e6:.1f}", f"{arm['updates']:,}"]
        row += [f"{arm['test_accuracy']:.4f}"]
    row += [f"{found['search_s']:.0f} + {found['final_s']:.0f}", f"{standard['final_s']:.0f}"]
    return f"| {' | '.join(row)} |"


def write(cells: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the results of all cells."""
    cells = sorted(cells, key=lambda cell: (list(DATA).index(cell["data"]), cell["seed"]))
    out: Path = arguments.out
    (out / "shipped_network.json").write_text(json.dumps(cells, indent=1) + "\n")
    by_data = {data: [cell for cell in cells if cell["data"] == data] for data in DATA}
    own = [f"--method {arguments.method}", *(f"--set {one}" for one in arguments.set)]
    text = [
        "# The network that a search ships, and the standard network",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {device_name(torch.device('cpu'))}, one thread, method "
        f"`{arguments.method}`. Renewed by",
        "",
        f"    NAS_TEST_DATA=FOLDER python benchmarks/shipped_network.py {' '.join(own)}",
        "",
        *(__doc__ or "").partition("shipped_network.py\n\n")[2].strip().splitlines(),
        "",
        "Test accuracy, means over seeds; one-sided p values of Wilcoxon's signed-rank test over",
        "pairs of equal seed, of the found network being better and of it being worse:",
        "",
        "| data | seeds | parameters | found | standard | points | better / worse | p better |"
        " p worse |",
        "| --- |" + " ---: |" * 8,
        *(compared(rows, data) for data, rows in by_data.items() if rows),
        "",
        "Each cell; multiply-adds in millions, seconds of search + final training:",
        "",
        "| data | seed | found network | params | M MACs | updates | accuracy |"
        " params of standard | M MACs | updates | accuracy | s | s of standard |",
        "| --- | ---: | --- |" + " ---: |" * 10,
        *map(single, cells),
    ]
    (out / "shipped_network.md").write_text("\n".join(text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="nases", choices=METHODS)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], help="a setting of the preset")
    parser.add_argument("--cells", type=Path, default=Path("shipped_network.jsonl"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = arguments.cells.read_text().splitlines() if arguments.cells.exists() else []
    cells = [json.loads(line) for line in lines]
    with arguments.cells.open("a") as file:
        for data, seed in missing(cells, arguments):
            cells.append(run_cell(data, seed, arguments))
            file.write(json.dumps(cells[-1]) + "\n")
            file.flush()
            print(single(cells[-1]), flush=True)
    write(cells, arguments)


if __name__ == "__main__":
    main()
