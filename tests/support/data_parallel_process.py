"""One process that trains a network alone or with others: torchrun ... THIS_FILE FOLDER DATA JSON

JSON is a list of settings, one object a training. Writes the results to FOLDER/RANK_of_SIZE.pt.
"""

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nascore.config import TrainingConfig
from nascore.data.batches import Splits, load
from nascore.spaces.base import ImageShape
from nascore.spaces.residual.config import ResidualSpaceConfig
from nascore.spaces.residual.space import ResidualSpace
from nascore.training import distributed
from nascore.training.child import build_network
from nascore.training.loop import train


def main(folder: Path, data: Path, trainings: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    with group(folder):
        splits = load(data, distributed.CPU)
        kept = [trained(splits, settings) for settings in trainings]
        torch.save(kept, folder / f"{distributed.rank()}_of_{distributed.size()}.pt")


def group(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Return the group of the processes that torchrun has started; nothing for one process."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return contextlib.nullcontext()
    store = dist.FileStore(str(folder / "store"), size)
    rank = int(os.environ["RANK"])
    return distributed.joined_by(store, rank=rank, size=size, device=distributed.CPU)


def trained(splits: Splits, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of a network after some updates, and what the training has returned."""
    space = ResidualSpace(ResidualSpaceConfig(channels=8, num_stages=2))
    shape = ImageShape(splits.info.channels, splits.info.size, len(splits.info.classes))
    network = build_network(space, space.standard, shape, seed=0)
    given = {"epochs": 2, "max_steps": 8, "batch_size": 33, "lr": 0.02, **settings}
    config = TrainingConfig.model_validate(given)
    training = train(
        network,
        splits.train.balanced(config),
        config,
        generator=torch.Generator().manual_seed(0),
        valid=splits.valid,
    )
    modules = {type(module).__name__ for module in network.modules()}
    return {"weights": network.state_dict(), "training": asdict(training), "modules": modules}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
