"""`nas doctor`: what is wrong with this machine or image, and what to do about it."""

import json
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
    """Everything that is asked for is there, in a version that was asked for."""
    unmet = [*_unmet("nas-pipelines", "pipeline"), *_unmet("kfp")]
    if unmet:
        advice = "install with: pip install -r requirements.lock"
        return Finding("packages", "problem", "; ".join(unmet), advice)
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("kfp", "mlflow", "optuna"))
    return Finding("packages", "ok", shown)


def _unmet(distribution: str, extra: str = "") -> Iterator[str]:
    from packaging.requirements import Requirement

    for line in metadata.requires(distribution) or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            yield f"{wanted.name} is missing"
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield f"{wanted.name} is {found}, {distribution} wants {wanted.specifier}"


_TORCH_PROBE = """
import json, torch
x = torch.ones(4, 4)
assert (x @ x)[0, 0] == 4
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
if gpus:
    y = torch.ones(4, 4, device="cuda")
    assert (y @ y)[0, 0].item() == 4
print(json.dumps([torch.__version__, torch.get_num_threads(), gpus]))
"""


def _torch(config: Config) -> Finding:
    """Computes in a process of its own: a broken driver can take a process down."""
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
    version, threads, gpus = json.loads(probe.stdout.splitlines()[-1])
    seen = f"{version}, GPU {', '.join(gpus)}" if gpus else f"{version}, {threads} CPU threads"
    if gpus:
        return Finding("torch", "ok", seen)
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        advice = "there is an NVIDIA driver that torch cannot use: install a CUDA build of torch, "
        return Finding("torch", "warning", seen, advice + "and compare its version with nvidia-smi")
    if "cuda" in (config.train.device, config.search.child.device, config.latency.device):
        advice = "the configuration asks for cuda; set device: auto, or use a machine with a GPU"
        return Finding("torch", "problem", f"{seen}, no GPU", advice)
    return Finding("torch", "ok", f"{seen}, no GPU")


def _memory(config: Config) -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) / 2**30)
    seen = f"{free:.1f} GB free, {_num_cpus():g} CPUs"
    if free < _MIN_MEMORY_GB:
        return Finding("memory", "warning", seen, "a step needs up to 2.5 GB; close something")
    return Finding("memory", "ok", seen)


def _num_cpus() -> float:
    """What this process may use: a container sees all CPUs of its node."""
    available = float(len(os.sched_getaffinity(0)))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            available = min(available, int(limit) / int(period))
    return available


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
    """Whether the source is there; reading it is the first step of a run."""
    from nascore.data.sources import misnamed

    source = config.data.source
    message = misnamed(source)
    if message:
        return Finding("data", "problem", source, message)
    kind, _, path = source.partition(":")
    if kind == "npz" and not Path(path).expanduser().is_file():
        return Finding("data", "problem", source, f"there is no file {path}; correct data.source")
    if kind == "imagefolder" and not Path(path).expanduser().is_dir():
        return Finding("data", "problem", source, f"there is no folder {path}; correct data.source")
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
