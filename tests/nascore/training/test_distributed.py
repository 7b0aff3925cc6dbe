"""Two processes on CPUs (gloo), started by torchrun, train one network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["shared_process.py", "nasib_process.py"])
def test_two_processes_hold_the_same_weights_and_one_writes(
    tmp_path: Path, digits_folder: Path, script: str
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(SUPPORT / script), str(tmp_path), str(digits_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["size"] == second["size"] == 2
    assert (first.pop("wrote"), second.pop("wrote")) == (True, False)
    assert first == second
    assert first.get("moved", True), "the distribution has learned"
