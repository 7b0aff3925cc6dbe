"""`nas doctor`: what is wrong with this machine or image, and what to do about it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from components.config import Config
from components.tracking import check_store, redact

_MIN_DISK_GB = 1.0
_MIN_MEMORY_GB = 4.0
_TORCH_RANGE = ("2.9", "2.15")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, how it went, what was seen, and what to do when it is not ok."""

    name: str
    state: Literal["ok", "warning", "problem"]
    seen: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(config: Config) -> Iterator[Finding]:
    """All checks, one after the other; a check that breaks is itself a problem."""
    for check in CHECKS:
        try:
            yield check(config)
        except Exception as error:  # a doctor must not die of the disease
            yield Finding(
                check.__name__.removeprefix("_"), "problem", f"{type(error).__name__}: {error}"
            )


def _python(config: Config) -> Finding:
    seen = sys.version.split()[0]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("python", "problem", seen, "use Python 3.11, 3.12 or 3.13")
    return Finding("python", "ok", seen)


def _packages(config: Config) -> Finding:
    missing = []
    for name in ("torch", "torchvision", "optuna", "kfp", "mlflow", "boto3", "pydantic"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "packages",
            "problem",
            f"missing: {', '.join(missing)}",
            "install with: pip install -r requirements.lock",
        )
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("kfp", "mlflow", "optuna"))
    return Finding("packages", "ok", shown)


_TORCH_PROBE = """
import torch
x = torch.ones(4, 4)
assert (x @ x)[0, 0] == 4
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
if gpus:
    y = torch.ones(4, 4, device="cuda")
    assert (y @ y)[0, 0].item() == 4
print(torch.__version__, "|", torch.get_num_threads(), "|", ", ".join(gpus))
"""


def _torch(config: Config) -> Finding:
    """In a process of its own: a broken driver can take a process down."""
    probe = subprocess.run(
        [sys.executable, "-c", _TORCH_PROBE], capture_output=True, text=True, timeout=120
    )
    if probe.returncode != 0:
        lines = probe.stderr.strip().splitlines()
        return Finding(
            "torch",
            "problem",
            lines[-1] if lines else f"exit status {probe.returncode}",
            "reinstall torch for this machine; on a GPU node check `nvidia-smi` and the driver",
        )
    version, threads, gpus = (part.strip() for part in probe.stdout.split("|"))
    number = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    low, high = (tuple(int(p) for p in bound.split(".")) for bound in _TORCH_RANGE)
    if not low <= number < high:
        return Finding("torch", "warning", version, "tested with torch 2.9 to 2.14")
    where = f"GPU {gpus}" if gpus else f"no GPU, {threads} CPU threads"
    return Finding("torch", "ok", f"{version}, {where}")


def _memory(config: Config) -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) / 2**30)
    seen = f"{free:.1f} GB free, {os.cpu_count()} CPUs"
    if free < _MIN_MEMORY_GB:
        return Finding("memory", "warning", seen, "a step needs up to 2.5 GB; close something")
    return Finding("memory", "ok", seen)


def _disk(config: Config) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < _MIN_DISK_GB:
        return Finding("disk", "problem", f"{free:.1f} GB free", "free some; runs/ is written here")
    return Finding("disk", "ok", f"{free:.1f} GB free")


def _output(config: Config) -> Finding:
    folder = Path("runs") if Path("runs").exists() else Path.cwd()
    if not os.access(folder, os.W_OK):
        return Finding(
            "output",
            "problem",
            f"{folder} is not writable",
            "change to another folder, or use --out",
        )
    return Finding("output", "ok", f"{folder.resolve()} is writable")


def _tracking(config: Config) -> Finding:
    problems, warnings = check_store(config.tracking.uri)
    shown = redact(config.tracking.uri)
    if problems:
        return Finding("tracking", "problem", shown, problems[0].message)
    if warnings:
        return Finding("tracking", "warning", shown, warnings[0])
    return Finding("tracking", "ok", shown)


def _data(config: Config) -> Finding:
    source = config.data.source
    kind, _, path = source.partition(":")
    if path and not Path(path).expanduser().exists():
        return Finding("data", "problem", source, f"{path} is not there")
    if kind.startswith("cifar") and config.data.root is None:
        return Finding(
            "data", "warning", source, "will be downloaded; set data.root to use files at hand"
        )
    return Finding("data", "ok", source)


CHECKS: tuple[Callable[[Config], Finding], ...] = (
    _python,
    _packages,
    _torch,
    _memory,
    _disk,
    _output,
    _tracking,
    _data,
)
