"""Speed of a child's training compared with a bare PyTorch loop on the same network.

    .venv/bin/python benchmarks/training_speed.py [--children N] [--epochs N] [--repeats N]

The bare loop has its batches ready in memory, normalised, not augmented, and does forward, backward
and update with the same optimizer. Both are timed in turn, A B A B; the ratio is of medians. Writes
docs/results/training_speed.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from nascore.config import DataConfig, TrainingConfig
from nascore.data.batches import Split, load
from nascore.data.prepared import prepare
from nascore.latency.benchmark import device_name
from nascore.seeding import Seeds
from nascore.spaces import base
from nascore.spaces.base import ImageShape
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.training.child import build_network
from nascore.training.loop import train

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "training_speed.json"


def bare_loop(network: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
    )
    network.train()
    for x_BCHW, y_B in batches:
        loss = F.cross_entropy(network(x_BCHW), y_B)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def ready_batches(split: Split, config: TrainingConfig) -> list[tuple[torch.Tensor, torch.Tensor]]:
    plain = config.model_copy(update={"crop_padding": 0, "flip": False, "cutout": 0})
    return list(split.train_batches(plain, torch.Generator().manual_seed(0)))


def seconds(work: object) -> float:
    start = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - start


def measure(
    source: str, config: TrainingConfig, *, children: int, repeats: int
) -> dict[str, object]:
    """Return the median ratio of bare seconds to ours per child (above 1: ours is faster)."""
    space = base.make_space(ChainSpaceConfig())
    with tempfile.TemporaryDirectory() as folder:
        info = prepare(DataConfig(source=source), seed=0, folder=Path(folder) / "data")
        split = load(Path(folder) / "data", torch.device("cpu")).train
        shape = ImageShape(info.channels, info.size, len(info.classes))
        batches = ready_batches(split, config) * config.epochs
        ratios, ours_s, bare_s = [], [], []
        for number in range(children):
            genotype = base.sample(space, Seeds(0).numpy("speed", number))
            network = build_network(space, genotype, shape, seed=0)
            bare_loop(network, batches[:3])  # warm-up of allocator and kernels
            ours, bare = [], []
            for _ in range(repeats):
                generator = torch.Generator().manual_seed(0)
                bare.append(seconds(lambda n=network: bare_loop(n, batches)))
                ours.append(
                    seconds(lambda n=network, g=generator: train(n, split, config, generator=g))
                )
            ours_s.append(statistics.median(ours))
            bare_s.append(statistics.median(bare))
            ratios.append(bare_s[-1] / ours_s[-1])
    return {
        "source": source,
        "batch_size": config.batch_size,
        "image": f"{shape.channels}x{shape.size}x{shape.size}",
        "children": children,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_of_sums": round(sum(bare_s) / sum(ours_s), 3),
        "ours_s": [round(value, 4) for value in ours_s],
        "bare_s": [round(value, 4) for value in bare_s],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", action="append", help="data.source; digits when not given")
    parser.add_argument("--children", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rows = []
    for source in args.source or ["digits"]:
        small = source == "digits"
        config = TrainingConfig(
            epochs=args.epochs,
            batch_size=32 if small else 128,
            crop_padding=1 if small else 4,
            flip=not small,
        )
        rows.append(measure(source, config, children=args.children, repeats=args.repeats))
        print(json.dumps(rows[-1]))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "device": device_name(torch.device("cpu")),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "results": rows,
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
