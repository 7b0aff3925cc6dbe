"""Checks of the machine or image: Python, packages, torch, memory, disk, folders."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from components.config.schema import Config
from nascore.files import is_writable, lock_fault
from pipelines.doctor.finding import Finding

_MIN_DISK_GB = 1.0
_MIN_MEMORY_GB = 4.0
_MIN_SHARED_GB = 1.0
_CACHES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def check_python(config: Config) -> Finding:
    seen = sys.version.split()[0]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("python", "problem", seen, "use Python 3.11, 3.12 or 3.13")
    return Finding("python", "ok", seen)


def check_packages(config: Config) -> Finding:
    """Check that all required packages are installed in required versions."""
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


def check_torch(config: Config) -> Finding:
    """Check torch and GPUs in another process, which a broken driver may crash."""
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
    if "cuda" in (config.training.device, config.latency.device):
        advice = "the configuration asks for cuda; set device: auto, or use a machine with a GPU"
        return Finding("torch", "problem", f"{seen}, no GPU", advice)
    return Finding("torch", "ok", f"{seen}, no GPU")


def check_memory(config: Config) -> Finding:
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
    """Return the number of CPUs that this process may use; a container sees all of its node."""
    available = float(len(os.sched_getaffinity(0)))
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            available = min(available, int(limit) / int(period))
    return available


def check_disk(config: Config) -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < _MIN_DISK_GB:
        return Finding("disk", "problem", f"{free:.1f} GB free", "free some; runs/ is written here")
    return Finding("disk", "ok", f"{free:.1f} GB free")


def check_output(config: Config) -> Finding:
    folder = Path("runs") if Path("runs").exists() else Path.cwd()
    if not is_writable(folder):  # a read-only mount refuses root too
        return Finding(
            "output",
            "problem",
            f"{folder} is not writable",
            "change to another folder, or use --out",
        )
    fault = lock_fault(folder)
    if fault:
        seen = f"the file system of {folder.resolve()} has no locks ({fault})"
        return Finding(
            "output", "problem", seen, "change to a folder on another disk, or use --out"
        )
    return Finding("output", "ok", f"{folder.resolve()} is writable")


def check_scratch(config: Config) -> Finding:
    """Check the folders that libraries write to; a container's root may be read-only.

    A run needs no home folder that can be written, so without one its caches are lost and no more.
    """
    home, temporary = Path.home(), _temporary()
    needed = [temporary, *(Path(os.environ[name]) for name in _CACHES if name in os.environ)]
    refused = sorted({str(folder) for folder in needed if not is_writable(folder)})
    if refused:
        advice = "mount a writable volume there (in Kubernetes an emptyDir), or set TMPDIR"
        return Finding("scratch", "problem", f"not writable: {', '.join(refused)}", advice)
    if not is_writable(home):
        advice = "nothing is kept in ~/.cache; set HOME to a folder of this user to keep it"
        return Finding("scratch", "warning", f"not writable: {home}", advice)
    return Finding("scratch", "ok", f"{temporary} and {home} are writable")


def _temporary() -> Path:
    import tempfile

    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR", "/tmp"))


def check_shm(config: Config) -> Finding:
    """Check /dev/shm, in which data loaders pass images; a container has 64 MB by default."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shm", "ok", "there is no /dev/shm")
    size = shutil.disk_usage(folder).total / 2**30
    seen = f"/dev/shm of {size:.1f} GB"
    if size < _MIN_SHARED_GB and config.data.source.startswith("imagefolder:"):
        advice = "fewer processes decode large images; set cluster.shared_memory, or --shm-size"
        return Finding("shm", "warning", seen, advice)
    return Finding("shm", "ok", seen)
