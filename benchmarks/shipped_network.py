"""The network that a search ships, against a random search and the standard network of its size.

    NAS_TEST_DATA=FOLDER python benchmarks/shipped_network.py

A cell is an arm on a data set with a seed, on one thread. All arms have the recipe of the quick
preset and are tested once, on the same images:

- found: the search and the final training of the method. Their processor time is T.
- standard: the standard residual network (two basic blocks a stage, 3x3, batch normalisation,
  ReLU), with the channels that bring it nearest to the number of parameters of the found network,
  trained from scratch for the time T.
- control: as many random children as the search has, and the final training of the best.
- pretrained: the standard network of that size, which starts from weights of a training on another
  data set and is then trained for the time T; the first training comes on top, as if its weights
  had been there already.

The time is processor time, since other work on the machine makes wall time longer; so the number of
weight updates of a standard network is computed from the time of its first ones. The control of the
pipeline, which runs on a second core, is left out of T. Latency is that of one image, by one
thread, right after the training.

Data sets: the digits of scikit-learn (8x8, grey), 2,000 training and 1,000 test images of CIFAR-10
(32x32, colour), and the drawings of six alphabets of Omniglot (28x28, grey), whose class is the
alphabet. The last two are read from the folder NAS_TEST_DATA.

Finished cells are in a file of JSON lines and are not repeated; processes with other data sets,
seeds or arms may share it. `--table` writes docs/results/shipped_network.{json,md} from the cells
that there are.
"""

import argparse
import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import numpy as np
import torch
from shipped_network_table import ARMS, DATA, Cell, Cells, seconds_of, single, write
from torch import nn
from torch.nn import functional as F

from components.steps.context_builder import StepInputs, build_context
from nascore.context import SearchContext
from nascore.data.prepared import prepare
from nascore.genotype import Genotype
from nascore.methods.registry import METHODS
from nascore.pretrained.matching import load_weights
from nascore.pretrained.weight_files import WeightFile, read_weight_file
from nascore.seeding import seeded_weights
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.blocks import Style
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualNetwork, Stage
from nascore.training.final_model import FinalModel, train_network
from nascore.training.loop import train
from nascore.training.network_kinds import Examples, kind_of
from nascore.training.prediction import predict
from pipelines.config import resolve

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SETTINGS: dict[str, tuple[str, ...]] = {
    "digits": (),
    "cifar10": ("training.crop_padding=4", "training.flip=true"),
    "alphabets": ("training.crop_padding=2",),
}
"""Data sets, with settings that differ from the preset; both networks have them."""
SOURCES = {"digits": "alphabets", "cifar10": "alphabets", "alphabets": "cifar10"}
"""Data set of the weights from which `pretrained` starts."""
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


def run_search(context: SearchContext) -> dict[str, Any]:
    """Search, and train the winner, as the steps of the pipeline do."""
    method, begun = METHODS[context.method].load(), time.process_time()
    method.pretrain(context)
    result = method.search(context)
    searched = time.process_time()
    final = method.train_final(context, result)
    return {
        **measured(context, final),
        "search_s": searched - begun,
        "final_s": time.process_time() - searched,
        "network": context.space.describe(result.genotype),
        "child_scores": [child.score for child in result.arm.children],
    }


def run_standard(
    context: SearchContext, num_params: int, seconds: float, weights: WeightFile | None = None
) -> dict[str, Any]:
    """Train the standard network of a size for a processor time, from scratch or from weights."""

    def new() -> nn.Module:
        seed = context.seeds.integer("standard", "weights")
        return standard_of(num_params, context.shape, seed=seed)

    updates = round(seconds / seconds_of_update(context, new(), _TRIAL_SHARE * seconds))
    length = {"max_steps": updates, "epochs": updates}
    context = replace(context, final=context.final.model_copy(update=length))
    network, started, begun = new(), None, time.process_time()
    if weights is not None:
        started = load_weights(network, weights, classes=context.splits.info.classes)
    final = train_network(context, network, Genotype("standard", ()), started=started)
    taken = {} if started is None else {"share": started.share}
    return {**measured(context, final), **taken, "final_s": time.process_time() - begun}


def measured(context: SearchContext, final: FinalModel) -> dict[str, Any]:
    """Return accuracy, size and latency of a trained network."""
    config = context.latency.model_copy(update={"threads": 1, "device": "cpu"})
    latency, _ = kind_of(final.network).profile(final, config, _no_examples)
    valid = context.splits.valid
    right_N = predict(final.network, valid).argmax(1) == valid.labels
    return {
        "test_accuracy": final.test_accuracy,
        "valid_right": "".join(str(int(one)) for one in right_N),
        "params": final.num_params,
        "macs": final.macs,
        "updates": final.num_steps,
        "latency_ms": latency.p50_ms,
    }


def _no_examples() -> Examples:
    raise AssertionError("the latency of these networks does not depend on the images")


def trained_weights(data: str, seed: int, num_params: int, arguments: Namespace) -> WeightFile:
    """Return the weights of a standard network that the final recipe has trained on a data set."""
    with context_of(data, seed, arguments.method, arguments) as context:
        network = standard_of(num_params, context.shape, seed=seed)
        train_network(context, network, Genotype("standard", ()))
        with NamedTemporaryFile(suffix=".pt") as file:
            torch.save(network.state_dict(), file.name)
            return read_weight_file(Path(file.name), source=data)


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


@contextmanager
def context_of(data: str, seed: int, method: str, arguments: Namespace) -> Iterator[SearchContext]:
    """Yield the context of the quick preset of a method on a data set."""
    with TemporaryDirectory() as name:
        folder, source = Path(name), data
        if data != "digits":
            write_arrays(data, folder / "data.npz")
            source = f"npz:{folder / 'data.npz'}"
        settings = [f"method={method}", f"seed={seed}", f"data.source={source}"]
        settings += ["search.control=false", "training.device=cpu", *SETTINGS[data], *arguments.set]
        config = resolve(None, "quick", settings)
        prepare(config.data, seed, folder / "data")
        yield build_context(
            StepInputs(
                config=config,
                dataset=folder / "data",
                controller=folder,
                state=folder,
                run_key="shipped",
            )
        )


def run_cell(data: str, seed: int, arm: str, cells: Cells, arguments: Namespace) -> Cell:
    """Run an arm on a data set with a seed; all but the searches need the cell of `found`."""
    method = "random" if arm == "control" else arguments.method
    weights = None
    if arm == "pretrained":
        weights = trained_weights(
            SOURCES[data], seed, cells[data, seed, "found"]["params"], arguments
        )
    with context_of(data, seed, method, arguments) as context:
        if arm in ("found", "control"):
            row = run_search(context)
        else:
            found = cells[data, seed, "found"]
            row = run_standard(context, found["params"], seconds_of(found), weights)
    return {"data": data, "seed": seed, "arm": arm, **row}


def read_cells(path: Path) -> dict[tuple[str, int, str], Cell]:
    """Return the finished cells by data set, seed and arm."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [json.loads(line) for line in lines]
    return {(cell["data"], cell["seed"], cell["arm"]): cell for cell in cells}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="nases", choices=METHODS)
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--set", action="append", default=[], help="a setting of the preset")
    parser.add_argument("--cells", type=Path, default=Path("runs/shipped_network.jsonl"))
    parser.add_argument("--table", action="store_true", help="write the table and train nothing")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.table and "NAS_TEST_DATA" not in os.environ:
        parser.error("set NAS_TEST_DATA to the folder of cifar10_small_rgb.npz")
    torch.set_num_threads(1)
    cells = read_cells(arguments.cells)
    if arguments.table:
        about = (__doc__ or "").partition("shipped_network.py\n\n")[2].strip()
        write(cells, arguments, about=about)
        return
    arguments.cells.parent.mkdir(parents=True, exist_ok=True)
    for seed, data, arm in product(arguments.seeds, arguments.data, arguments.arms):
        if (data, seed, arm) in cells:
            continue
        if arm in ("standard", "pretrained") and (data, seed, "found") not in cells:
            parser.error(f"{arm} needs the cell of `found` on {data} with seed {seed}")
        cells[data, seed, arm] = run_cell(data, seed, arm, cells, arguments)
        with arguments.cells.open("a") as file:
            file.write(json.dumps(cells[data, seed, arm]) + "\n")
        print(single(cells[data, seed, arm]), flush=True)


if __name__ == "__main__":
    main()
