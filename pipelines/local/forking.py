"""Fork server of a run on this machine: start and end."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from components.config.schema import Config
from components.fork_client import SOCKET, VARIABLE
from nascore.methods.registry import METHODS

_STEPS = (
    "prepare_data",
    "pretrain_controller",
    "search",
    "train_final",
    "profile_latency",
    "train_references",
)
_END_S = 5.0


def preload(config: Config) -> dict[str, list[str]]:
    """Return the modules that the fork server imports, by the step during which it does so.

    None of them starts a thread, which a fork would lack. Before the first step come only the
    modules of that step; during it torch, on another core; during the final training the modules
    that register a model, half of all imports. So neither a search that is compared with another
    nor the measurement of latency is disturbed.
    """
    prepare, *others = (f"components.steps.{step}" for step in _STEPS)
    training = ["torch", *others, METHODS[config.method].module]
    return {
        "": ["components.execute", "kfp.dsl.executor", "components.kfp_components", prepare],
        "prepare_data": training,
        "train_final": [
            "components.steps.promote",  # and mlflow, with its settings
            "mlflow.pytorch",
            "mlflow.store.tracking.sqlalchemy_store",
            "mlflow.store.model_registry.sqlalchemy_store",
            # torch.export loads these when it is called, which takes as long as importing torch.
            "torch._export.non_strict_utils",
            "torch.export.pt2_archive",
            "torch._functorch.aot_autograd",
            "torch._inductor.codecache",
        ],
    }


@contextlib.contextmanager
def fork_server(out: Path, config: Config) -> Iterator[None]:
    """Start the steps of the block by fork, on Linux; elsewhere forks of torch are not safe."""
    if sys.platform != "linux":
        yield
        return
    with tempfile.TemporaryDirectory(prefix="nas-") as folder:
        process = _start(out, config, Path(folder))
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[VARIABLE]
            _finish(process)


def _start(out: Path, config: Config, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "components.fork_server", str(out)]
    command += ["--preload", json.dumps(preload(config))]
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")  # short, whatever the folder
        finally:
            os.close(descriptor)
        listener.listen()
        number = listener.fileno()
        return subprocess.Popen([*command, "--listener", str(number)], pass_fds=(number,))


def _finish(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:  # it is importing a module
        process.kill()
        process.wait()
