"""One process of a group that searches within a budget: torchrun ... THIS_FILE FOLDER DATA

Writes to FOLDER/RANK.json what this process holds at the end.
"""

import json
import sys
from pathlib import Path

import torch
from nasib_tasks import make_task
from shared_process import digest

from nascore.config import BudgetConfig
from nascore.methods.nasib.search import BudgetSearch
from nascore.training import distributed


def main(folder: Path, data: Path) -> None:
    torch.set_num_threads(1)
    with distributed.joined(torch.device("cpu")):
        rank = distributed.rank()
        task = make_task(
            folder / str(rank),
            data,
            budget=BudgetConfig(steps=12),
            weights={"batch_size": 33, "lr": 0.1},
        )
        search = BudgetSearch(task)
        search.run()
        held = {
            "size": distributed.size(),
            "weights": digest(search._weights.supernet),
            "logits": digest(search.distribution),
            "moved": bool(search.distribution.logits_ES.any()),
            "accuracy": search.accuracies([search.genotype()]),
            "wrote": (task.state / "method.ckpt").exists(),
        }
    (folder / f"{rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
