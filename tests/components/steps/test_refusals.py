"""A refusal reaches the next pod without a state in common, through a real MLflow store."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.config.schema import Config
from components.config.settings import TrackingConfig
from components.steps.refusals import TAG
from components.steps.runtime import Step, execute
from components.steps.state import write_json
from nascore.errors import InputError, ResourceUnavailable

KEY = "0f82d07e593c41dd9dc7d0dd25be691d"


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float]]:
    """Runs a step as a new pod would: supervised, with a state and a spool of its own."""
    store = tmp_path / "mlflow.db"
    config = Config(tracking=TrackingConfig(uri=f"sqlite:///{store}"))
    write_json(tmp_path / "input.json", {"value": 1})
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("NAS_RESTARTS", "20")
    monkeypatch.delenv("NAS_STATE_ROOT", raising=False)
    count = 0

    def run(work: Callable[[Step], dict[str, float]], *, run_id: str = KEY) -> dict[str, float]:
        nonlocal count
        count += 1
        monkeypatch.setenv("NAS_RUN_ID", run_id)
        monkeypatch.setenv("NAS_STATE_DIR", str(tmp_path / f"pod{count}"))
        return execute(
            "search",
            work,
            run_key=KEY,
            config=config,
            inputs={"input": tmp_path / "input.json"},
            outputs={"output": tmp_path / "output"},
        )

    return run


def refuse(step: Step) -> dict[str, float]:
    raise InputError.of("search.study", "x", "belongs to another search")


def never(step: Step) -> dict[str, float]:
    raise AssertionError("work that was refused is done again")


def succeed(step: Step) -> dict[str, float]:
    (step.state.parent.parent / "output").touch()
    return {"done": 1.0}


def test_another_pod_refuses_at_once_and_makes_no_other_run(
    pod: Callable[..., dict[str, float]], tmp_path: Path
) -> None:
    """Finding N1: a wrong input was tried 48 times, and made 48 runs (N2)."""
    for work in (refuse, never, never):
        with pytest.raises(InputError, match=r"search\.study = x: belongs to another search"):
            pod(work)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("nas")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["nas.run_key"] for run in runs) == [KEY, f"{KEY}.search"]
    assert {run.info.status for run in runs} == {"FAILED"}
    assert {run.data.tags["nas.end_kind"] for run in runs} == {"input"}


def test_a_retry_of_the_user_looks_again(pod: Callable[..., dict[str, float]]) -> None:
    with pytest.raises(InputError):
        pod(refuse)
    assert pod(succeed, run_id="another-run-of-kubeflow") == {"done": 1.0}


def test_what_was_unreachable_is_tried_again(pod: Callable[..., dict[str, float]]) -> None:
    def away(step: Step) -> dict[str, float]:
        raise ResourceUnavailable.of("data.source", "s3://x", "cannot be reached")

    with pytest.raises(ResourceUnavailable):
        pod(away)
    assert pod(succeed) == {"done": 1.0}


def test_an_unreachable_store_keeps_no_step_from_its_work(tmp_path: Path) -> None:
    code = (
        "from components.tracking.pipeline_runs import tag_of_run; "
        f"print(tag_of_run('http://127.0.0.1:9', 'key', {TAG!r}))"
    )
    root = Path(__file__).parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.strip() == "None"
    assert "earlier tries of this step are not known" in ended.stderr
