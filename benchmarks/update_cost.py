"""The estimated cost of a weight update against its time.

    python benchmarks/update_cost.py

Networks of the space `residual`, drawn uniformly, of three sizes of images: processor time of an
update (forward, backward, SGD) with a batch of 32 images on one thread, against the multiply-adds,
the parameters and `update_cost` of `nascore.spaces.flops.count`. Writes
docs/results/update_cost.{json,md}.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nascore.latency.benchmark import device_name
from nascore.spaces.base import ImageShape, make_space, sample
from nascore.spaces.flops import Cost, count
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SHAPES = (ImageShape(1, 8, 10), ImageShape(1, 28, 6), ImageShape(3, 32, 10))
_BATCH_SIZE = 32
_NUM_UPDATES, _NUM_FIRST = 20, 4
_NUM_TRIES = 2  # the faster one counts: other work on the machine only adds time


def seconds_of_update(network: nn.Module, shape: ImageShape) -> float:
    """Return the processor time of a weight update, the mean over `_NUM_UPDATES`."""
    generator = torch.Generator().manual_seed(0)
    size = (_BATCH_SIZE, shape.channels, shape.size, shape.size)
    x_BCHW = torch.randn(size, generator=generator)
    y_B = torch.arange(_BATCH_SIZE) % shape.num_classes
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    begun = 0.0
    for update in range(_NUM_FIRST + _NUM_UPDATES):
        if update == _NUM_FIRST:
            begun = time.process_time()
        F.cross_entropy(network(x_BCHW), y_B).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - begun) / _NUM_UPDATES


def measured(shape: ImageShape, number: int, seed: int) -> list[dict[str, Any]]:
    """Return cost and time of the standard network, then of `number` others."""
    space = make_space(ResidualSpaceConfig(channels=8, max_depth=2))
    assert isinstance(space, ResidualSpace)
    rng = np.random.default_rng(seed)
    rows = []
    for genotype in (space.standard, *(sample(space, rng) for _ in range(number))):
        networks = [space.build(genotype, shape, "final") for _ in range(_NUM_TRIES)]
        cost: Cost = count(networks[0], shape)
        seconds = min(seconds_of_update(network, shape) for network in networks)
        row = {"seconds": seconds, "num_params": cost.num_params, "macs": cost.macs}
        rows.append({**row, "update_cost": cost.update_cost, "text": space.describe(genotype)})
        print(shape.size, f"{seconds * 1000:7.2f} ms", rows[-1]["text"], flush=True)
    return rows


def table(rows_of: dict[int, list[dict[str, Any]]]) -> list[str]:
    """Return a row for each size of images and each measure of cost, in Markdown."""
    lines = [
        "| pixels | ms | standard, ms | estimate | correlation | 10 % | median | 90 % |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for size, rows in rows_of.items():
        seconds_N = np.array([row["seconds"] for row in rows], float)
        span = f"{seconds_N.min() * 1e3:.1f} to {seconds_N.max() * 1e3:.1f}"
        for name in ("macs", "update_cost"):
            cost_N = np.array([row[name] for row in rows], float)
            ratio_N = (cost_N / cost_N[0]) / (seconds_N / seconds_N[0])
            low, middle, high = np.quantile(ratio_N, [0.1, 0.5, 0.9])
            correlation = np.corrcoef(cost_N, seconds_N)[0, 1]
            lines.append(
                f"| {size} | {span} | {seconds_N[0] * 1e3:.1f} | `{name}` | {correlation:.2f} "
                f"| {low:.2f} | {middle:.2f} | {high:.2f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=60, help="networks of each size")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows_of = {s.size: measured(s, arguments.number, arguments.seed) for s in SHAPES}
    date = datetime.now(UTC).date().isoformat()
    about = (__doc__ or "").partition("update_cost.py\n\n")[2].strip()
    device = device_name(torch.device("cpu"))
    text = [
        "# Cost and time of a weight update",
        "",
        f"{date}, {device}, one thread, {arguments.number} networks of each size, seed "
        f"{arguments.seed}. Renewed by `python benchmarks/update_cost.py`.",
        "",
        about,
        "",
        "Quantiles of (estimate relative to the standard network) / (time relative to the standard",
        "network): 1 is an exact estimate.",
        "",
        *table(rows_of),
    ]
    (RESULTS / "update_cost.md").write_text("\n".join(text) + "\n")
    content = {"date": date, "seed": arguments.seed, "rows": rows_of}
    (RESULTS / "update_cost.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
