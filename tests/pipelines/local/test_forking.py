"""What the fork server imports: forks of it must not lack a thread, nor find a GPU in use."""

import json
import subprocess
import sys

import pytest

from components.config.schema import parse
from nascore.methods.registry import METHODS
from pipelines.local.forking import preload

_PROBE = """
import importlib, json, sys, threading
for names in json.loads(sys.argv[1]).values():
    for name in names:
        importlib.import_module(name)
import torch
print(json.dumps([threading.active_count(), torch.cuda.is_initialized()]))
"""


@pytest.mark.parametrize("method", ["nases", "tpe"])
def test_the_modules_of_the_method_are_among_them(method: str) -> None:
    names = preload(parse({"method": method}))["prepare_data"]
    assert METHODS[method].module in names


def test_what_is_imported_is_there_starts_no_thread_and_leaves_the_gpu_alone() -> None:
    """All of them, so that a module that another version of torch lacks is missed here."""
    names = json.dumps(preload(parse({})))
    environment = {"_KFP_RUNTIME": "true", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, names], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1, False]
