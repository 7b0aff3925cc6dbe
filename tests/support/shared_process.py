"""One process of a group that trains shared weights: torchrun ... THIS_FILE FOLDER DATA

Writes to FOLDER/RANK.json what this process holds at the end.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from shared_tasks import make_task

from nascore.methods.enas import method
from nascore.methods.enas.shared_search import SharedSearch
from nascore.training import distributed


def digest(module: torch.nn.Module) -> str:
    content = b"".join(p.detach().numpy().tobytes() for p in module.parameters())
    return hashlib.sha256(content).hexdigest()


def main(folder: Path, data: Path) -> None:
    torch.set_num_threads(1)
    with distributed.joined(torch.device("cpu")):
        rank = distributed.rank()
        task = make_task(folder / str(rank), data, "enas", weights={"batch_size": 33})
        method.pretrain(task)
        policy, _ = method.load_policy(task)
        arm = SharedSearch(task, "method", policy)
        arm.run()
        held = {
            "size": distributed.size(),
            "weights": digest(arm._weights.supernet),
            "policy": digest(policy.controller),
            "ranking": [ranked.score for ranked in arm.rank()],
            "wrote": (folder / str(rank) / "method.ckpt").exists(),
        }
    (folder / f"{rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
