"""The client install: what only submits needs neither torch nor MLflow."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kfp_server import KfpServer

ROOT = Path(__file__).parents[3]
ABSENT = ("torch", "torchvision", "mlflow", "optuna", "scipy", "sklearn", "sqlalchemy")
_UNREACHABLE = ("Temporary failure in name resolution", "ConnectionError", "NewConnectionError")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of a clean environment with the client in it."""
    folder = tmp_path_factory.mktemp("client")
    source = folder / "source"
    for name in ("nascore", "components", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    wanted = f"nas-pipelines[client] @ {source.as_uri()}"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted],
        capture_output=True,
        text=True,
    )
    if done.returncode and any(sign in done.stderr for sign in _UNREACHABLE):
        pytest.skip("the package index cannot be reached from here")
    assert done.returncode == 0, done.stderr
    return python


def nas(python: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, "-m", "pipelines.cli", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_client_submits_without_torch_and_mlflow(
    python: str, kfp: KfpServer, tmp_path: Path
) -> None:
    probe = f"from importlib.util import find_spec; print([n for n in {ABSENT!r} if find_spec(n)])"
    found = subprocess.run([python, "-c", probe], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
    common = ("--image=repo/nas:1.2", "--set=method=random")
    common += ("--set=tracking.uri=http://mlflow.invalid:5000",)
    submitted = nas(python, "submit", *common, "--json", cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    run_id = json.loads(submitted.stdout)["run_id"]
    assert any(request.path.endswith("/runs") for request in kfp.requests)
    for command in (
        ("status", run_id, "--json"),
        ("cancel", run_id),
        ("config", "--json"),
        ("compile", *common, "--out=pipeline.yaml"),
        ("schedule", "create", *common, "--name=weekly", "--cron=0 0 3 * * 1"),
        ("schedule", "list"),
    ):
        done = nas(python, *command, cwd=tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    for command in (("run",), ("ui",), ("bench", "suggest"), ("check-data", "digits")):
        refused = nas(python, *command, cwd=tmp_path)
        assert refused.returncode == 2, f"{command}: {refused.stderr}"
        assert f"{python} -m pip install 'nas-pipelines[full] @ file://" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"pipeline.yaml"}
