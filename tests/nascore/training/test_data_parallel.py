"""Two processes on CPUs (gloo) that divide each batch train as one process does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "support" / "data_parallel_process.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
TRAININGS: list[dict[str, Any]] = [
    {},
    {"max_grad_norm": 0.5, "class_weights": "balanced", "crop_padding": 1, "batch_size": 32},
    {"label_smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "ema": 0.1, "channels_last": True},
    {"optimizer": "adamw", "lr": 0.002},
    {"weight_decay": 0.01},
]


def run(folder: Path, data: Path, *, processes: int) -> None:
    command = [sys.executable, *(TORCHRUN if processes == 2 else [])]
    command += [str(SCRIPT), str(folder), str(data), json.dumps(TRAININGS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path, digits_folder: Path) -> None:
    for processes in (1, 2):
        run(tmp_path, digits_folder, processes=processes)
    kept = [torch.load(tmp_path / name) for name in ("0_of_1.pt", "0_of_2.pt", "1_of_2.pt")]
    for settings, alone, first, second in zip(TRAININGS, *kept, strict=True):
        for name, weight in alone["weights"].items():
            assert torch.equal(first["weights"][name], second["weights"][name]), (settings, name)
            where = f"{settings}: {name}"
            torch.testing.assert_close(
                first["weights"][name], weight, rtol=1e-3, atol=1e-4, msg=where
            )
        one, two, other = alone["training"], first["training"], second["training"]
        assert one["num_steps"] == two["num_steps"]
        for score in ("train_accuracy", "valid_accuracy"):
            assert two[score] == other[score], settings
            assert two[score] == pytest.approx(one[score], abs=0.02), settings
        assert alone["modules"] == first["modules"], "normalisations are those of before"
