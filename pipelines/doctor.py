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
from components.tracking import check_store
from nascore.errors import InputError
from nascore.redaction import redact

_MIN_DISK_GB = 1.0
_MIN_MEMORY_GB = 4.0
_MIN_SHARED_GB = 1.0
_CACHES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_CONNECT_S = 5


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


def _scratch(config: Config) -> Finding:
    """What libraries write to besides the output: a container's root may be read-only."""
    wanted = [_temporary(), Path.home(), *(Path(os.environ[n]) for n in _CACHES if n in os.environ)]
    refused = sorted({str(folder) for folder in wanted if not _is_writable(folder)})
    if refused:
        advice = "mount a writable volume there (in Kubernetes an emptyDir), or set TMPDIR and HOME"
        return Finding("scratch", "problem", f"not writable: {', '.join(refused)}", advice)
    return Finding("scratch", "ok", f"{wanted[0]} and {wanted[1]} are writable")


def _temporary() -> Path:
    import tempfile

    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _is_writable(folder: Path) -> bool:
    """Tried out in the nearest folder that exists: permissions do not tell of read-only mounts."""
    import tempfile

    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _shm(config: Config) -> Finding:
    """/dev/shm, in which loaders of several processes hand images over; in a container 64 MB."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shm", "ok", "there is no /dev/shm")
    size = shutil.disk_usage(folder).total / 2**30
    seen = f"/dev/shm of {size:.1f} GB"
    if size < _MIN_SHARED_GB and config.data.source.startswith("imagefolder:"):
        advice = "a large image folder may not be read; set cluster.shared_memory, or --shm-size"
        return Finding("shm", "warning", seen, advice)
    return Finding("shm", "ok", seen)


def _study(config: Config) -> Finding:
    """Whether the database of the study can be reached; nothing is made in it."""
    from nascore.storage import resolve_url, without_password

    storage = config.search.storage
    if storage is None:
        return Finding("study", "ok", "a file in the folder of the run")
    try:
        url = resolve_url(storage)
    except InputError as error:
        return Finding("study", "problem", redact(storage), error.problems[0].message)
    fault = _connection_fault(url)
    if fault is not None:
        advice = "check search.storage, the account, and that the server can be reached from here"
        return Finding("study", "problem", f"{without_password(url)}: {fault}", advice)
    return Finding("study", "ok", without_password(url))


def _connection_fault(url: str) -> str | None:
    """What a database says to us; of SQLite, which would make a file, whether it could."""
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        folder = Path(parsed.database or "").resolve().parent
        return None if folder.is_dir() and _is_writable(folder) else f"{folder} is not writable"
    timed = parsed.drivername.startswith("postgresql+psycopg")
    try:
        engine = create_engine(url, connect_args={"connect_timeout": _CONNECT_S} if timed else {})
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:  # no driver
        return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    return None


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
        return Finding("data", "problem", redact(source), message)
    kind, _, path = source.partition(":")
    if path.startswith("s3://"):
        return Finding("data", "ok", f"{source} (read in the first step of a run)")
    if kind == "npz" and not Path(path).expanduser().is_file():
        return Finding("data", "problem", source, f"there is no file {path}; correct data.source")
    if kind == "imagefolder" and not Path(path).expanduser().is_dir():
        return Finding("data", "problem", source, f"there is no folder {path}; correct data.source")
    if kind.startswith("cifar") and config.data.root is None:
        return Finding(
            "data", "warning", source, "will be downloaded; set data.root to use files at hand"
        )
    return Finding("data", "ok", source)


def _export(config: Config) -> Finding:
    """Whether the files of a run can be handed over."""
    from components.deliverables import check_outputs
    from components.storage.outputs import open_outputs

    root = config.promote.export_to
    if root is None:
        return Finding("export", "ok", "results stay in the folder of the run, and in MLflow")
    try:
        check_outputs(open_outputs(root), config.promote.model_name)
    except InputError as error:
        return Finding("export", "problem", root, error.problems[0].message)
    return Finding("export", "ok", root)


CHECKS: tuple[Callable[[Config], Finding], ...] = (
    _python,
    _packages,
    _torch,
    _memory,
    _disk,
    _output,
    _scratch,
    _shm,
    _study,
    _tracking,
    _data,
    _export,
)
