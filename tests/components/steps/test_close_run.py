"""What a run leaves that ends without warning: closed by its exit task, next try, or the next run.

Steps are processes that are killed with the process that sends their events.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from optuna.trial import TrialState
from postgres import Postgres

from components.steps import close_run
from components.tracking.reading import num_unsent
from nascore.search.study import Study
from nascore.search.study_storage import Storage

POINTS = 400
STEP = """
import os, signal, sys, time
from pathlib import Path
import psutil
from components.config.schema import loads
from components.steps.runtime import execute
from components.tracking.reading import State

config, first, points = loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
dies = first == 0
output = Path(os.environ["NAS_STATE_DIR"]) / "output"

def work(step):
    child = step.tracker.run(
        f"{step.run_key}.search.child-1", name="child", parent=f"{step.run_key}.search"
    )
    for number in range(first, first + points):
        step.tracked.metrics({"accuracy": number / 10}, number)
        child.metrics({"loss": number / 10}, number)
        if dies and number == points // 2:  # some events are sent, and others are not
            while not State.load(step.tracker.spool).sent:
                time.sleep(0.05)
    step.parent.tags({"nas.note": "from the step"})
    if dies:
        for process in (*psutil.Process().children(), psutil.Process()):
            process.send_signal(signal.SIGKILL)
        time.sleep(60)
    child.end()
    output.write_text("done")
    return {}

execute("search", work, run_key=sys.argv[4], config=config, inputs={}, outputs={"output": output})
"""
CLOSE = """
import json, sys
from components.steps import close_run

close_run.run(config=sys.argv[1], parameters={"seed": "3"}, status=sys.argv[2], message="")
print("torch" in sys.modules)
"""
Runs = Callable[..., dict]


@dataclass
class Pod:
    """Processes of one run of Kubeflow, with a volume for the state of all runs."""

    volume: Path
    uri: str
    search: dict[str, Any] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    experiment: str = field(default_factory=lambda: f"of {uuid.uuid4().hex}")

    @property
    def key(self) -> str:
        return self.run_id.replace("-", "")

    @property
    def state(self) -> Path:
        return self.volume / self.run_id

    @property
    def config(self) -> str:
        tracking = {"uri": self.uri, "experiment": self.experiment}
        return json.dumps({"tracking": tracking, "search": self.search})

    def variables(self) -> dict[str, str]:
        return {
            "NAS_RUN_ID": self.run_id,
            "NAS_STATE_ROOT": str(self.volume),
            "NAS_STATE_DIR": str(self.state),
        }

    def step(self, *, dies: bool) -> int:
        """Runs the search step until it ends or kills itself and its follower."""
        self.state.mkdir(exist_ok=True)
        first = 0 if dies else POINTS  # it resumes behind what it has done
        return self._run(STEP, self.config, str(first), str(POINTS), self.key).returncode

    def close(self, status: str) -> str:
        done = self._run(CLOSE, self.config, status)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Whoever is killed leaves its output open to others: no pipe, which would be waited for.
        with open(self.volume / "stdout", "w+") as out, open(self.volume / "stderr", "w+") as err:
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments],
                env={**os.environ, **self.variables()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=120,
                check=False,
            )
        texts = [(self.volume / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)


@pytest.fixture
def pod(tmp_path: Path, mlflow_server: MlflowServer) -> Pod:
    return Pod(tmp_path, mlflow_server.uri)


def points(uri: str, run: Any, name: str) -> list[tuple[int, float]]:
    history = MlflowClient(uri).get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.value) for point in history)


def check_that_all_is_there_once(
    pod: Pod, runs_by_key: Runs, count: int = POINTS
) -> dict[str, Any]:
    """Every event of a step that was killed; returns its runs by the ends of their keys."""
    spool = pod.state / "search" / "spool"
    assert num_unsent(spool) == 0
    assert not (spool / "rejected.jsonl").exists()
    found = runs_by_key(pod.uri, pod.experiment)
    assert {key: len(runs) for key, runs in found.items()} == {
        pod.key: 1,
        f"{pod.key}.search": 1,
        f"{pod.key}.search.child-1": 1,
    }
    runs = {key.removeprefix(pod.key): run for key, (run,) in found.items()}
    wanted = [(number, number / 10) for number in range(count)]
    assert points(pod.uri, runs[".search"], "accuracy") == wanted
    assert points(pod.uri, runs[".search.child-1"], "loss") == wanted
    assert runs[""].data.tags["nas.note"] == "from the step"
    return runs


@pytest.mark.slow
def test_the_exit_task_sends_and_ends_what_a_killed_step_has_left(
    pod: Pod, runs_by_key: Runs
) -> None:
    assert pod.step(dies=True) == -9
    assert num_unsent(pod.state / "search" / "spool") > 0
    printed = pod.close("FAILED")
    runs = check_that_all_is_there_once(pod, runs_by_key)
    for run in runs.values():
        assert run.info.status == "FAILED"
        assert run.data.tags["nas.end_kind"] == "lost"
        assert "no step has said why" in run.data.tags["nas.end_reason"]
    assert runs[""].data.tags["nas.kfp_run_id"] == pod.run_id
    assert "3 open MLflow runs ended as FAILED" in printed
    assert printed.split()[-1] == "False", "torch is not loaded"


@pytest.mark.slow
def test_the_next_try_of_the_step_sends_what_the_last_has_left(pod: Pod, runs_by_key: Runs) -> None:
    assert pod.step(dies=True) == -9
    assert pod.step(dies=False) == 0
    runs = check_that_all_is_there_once(pod, runs_by_key, 2 * POINTS)
    assert {end: run.info.status for end, run in runs.items()} == {
        "": "RUNNING",
        ".search": "FINISHED",
        ".search.child-1": "FINISHED",
    }
    assert pod.close("COMPLETE").startswith("close_run: 1 open MLflow runs ended as FINISHED")
    (pipeline,) = runs_by_key(pod.uri, pod.experiment)[pod.key]
    assert pipeline.info.status == "FINISHED"
    assert "nas.end_reason" not in pipeline.data.tags


@pytest.mark.slow
def test_the_first_step_of_the_next_run_closes_what_the_last_has_left(
    pod: Pod,
    runs_by_key: Runs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pod.step(dies=True) == -9
    following = Pod(pod.volume, pod.uri, experiment=pod.experiment)
    for name, value in following.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        close_run.KubeflowRuns, "is_over", lambda self, run_id: run_id == pod.run_id
    )
    close_run.close_ended_runs(settings_of(following))
    runs = check_that_all_is_there_once(pod, runs_by_key)
    assert {run.info.status for run in runs.values()} == {"FAILED"}
    assert "the Kubeflow run has ended" in runs[""].data.tags["nas.end_reason"]
    assert f"run {pod.run_id}: 3 open MLflow runs closed" in capsys.readouterr().out


def settings_of(pod: Pod) -> Any:
    from components.config.schema import parse

    return parse(json.loads(pod.config))


@pytest.mark.slow
def test_an_outage_fails_nothing_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:9", {"storage": "env:NAS_STUDY_URL"})
    monkeypatch.setattr(close_run, "_SEND_S", 2.0)
    for name, value in pod.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NAS_STUDY_URL", "postgresql://nas:hunter2@127.0.0.1:9/studies")
    log_unsent(pod)
    close_run.run(config=pod.config, parameters={}, status="FAILED", message="")
    close_run.close_ended_runs(settings_of(pod))
    printed = capsys.readouterr().out
    spool = pod.state / "search" / "spool"
    assert f"1 events in {spool} are not sent" in printed
    assert f"python -m components.tracking.replayer --spool {spool}" in printed
    assert "close_run: MLflow runs: tracking.uri" in printed
    assert "close_run: the trials of the study: search.storage" in printed
    assert "close_run: MLflow runs of earlier runs" in printed
    assert printed.count("`nas status RUN` or the next run") >= 3
    assert "hunter2" not in printed


def log_unsent(pod: Pod) -> None:
    from components.tracking import Tracker

    spool = pod.state / "search" / "spool"
    tracker = Tracker.open(spool, uri=pod.uri, experiment=pod.experiment)
    tracker.run(pod.key, name="pipeline", tags={"nas.kfp_run_id": pod.run_id})
    tracker.close()


def test_the_first_step_of_the_next_run_sends_what_mlflow_has_never_seen(
    tmp_path: Path, store: str, runs_by_key: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow was unreachable from the start of the run until its exit task had ended."""
    over, running, other = (Pod(tmp_path, uri, experiment="nas") for uri in (store, store, "x://"))
    for pod in (over, running, other):
        log_unsent(pod)
    for name, value in Pod(tmp_path, store, experiment="nas").variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        close_run.KubeflowRuns, "is_over", lambda self, run_id: run_id != running.run_id
    )
    close_run.close_ended_runs(settings_of(over))
    ((run,),) = runs_by_key(store).values()
    assert run.info.status == "FAILED"
    assert "the Kubeflow run has ended" in run.data.tags["nas.end_reason"]
    left = [num_unsent(pod.state / "search" / "spool") for pod in (over, running, other)]
    assert left == [0, 1, 1]


# --- how it ended -----------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """The exit task in this process, with a store in a file."""
    pod = Pod(tmp_path, store, experiment="nas")
    pod.state.mkdir()
    for name, value in pod.variables().items():
        monkeypatch.setenv(name, value)
    return pod


def make_run(pod: Pod, end: str = "", status: str = "RUNNING", **tags: str) -> str:
    client = MlflowClient(pod.uri)
    experiment = client.get_experiment_by_name(pod.experiment)
    experiment_id = (
        client.create_experiment(pod.experiment) if experiment is None else experiment.experiment_id
    )
    named = {f"nas.{name}": value for name, value in tags.items()}
    run = client.create_run(experiment_id, tags={"nas.run_key": pod.key + end, **named})
    if status != "RUNNING":
        client.set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


@pytest.mark.parametrize(
    ("state", "promoted", "status", "kind"),
    [
        ("COMPLETE", False, "FINISHED", None),
        ("SUCCEEDED", False, "FINISHED", None),
        ("FAILED", False, "FAILED", "lost"),
        ("CANCELED", False, "KILLED", "stopped"),
        ("RUNNING", False, "FAILED", "lost"),
        ("RUNNING", True, "FINISHED", None),
        ("", False, "FAILED", "lost"),
    ],
)
def test_the_state_that_kubeflow_gives_decides(
    local: Pod, state: str, promoted: bool, status: str, kind: str | None
) -> None:
    """It gives that of ML Metadata, which is RUNNING for ever where a pod was lost."""
    make_run(local, "", "FINISHED" if promoted else "RUNNING")
    step = make_run(local, ".search")
    close_run.run(config=local.config, parameters={}, status=state, message="")
    run = MlflowClient(local.uri).get_run(step)
    assert (run.info.status, run.data.tags.get("nas.end_kind")) == (status, kind)


def test_the_reason_is_that_of_the_step_that_failed(local: Pod) -> None:
    pipeline = make_run(local)
    make_run(local, ".search", "FAILED", end_reason="out of memory at 2 GiB", end_kind="memory")
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    tags = MlflowClient(local.uri).get_run(pipeline).data.tags
    assert tags["nas.end_reason"] == "search: out of memory at 2 GiB"
    assert tags["nas.end_kind"] == "memory"


def test_a_configuration_that_is_refused_leaves_nothing_open(
    local: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    close_run.run(config='{"sede": 1}', parameters={}, status="FAILED", message="")
    assert "the configuration is refused" in capsys.readouterr().out


def test_a_defect_of_the_code_fails_no_run_and_is_reported(
    local: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(local)
    monkeypatch.setattr(close_run.closing, "close_run", lambda **given: 1 / 0)
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    printed = capsys.readouterr()
    assert "close_run: MLflow runs: ZeroDivisionError" in printed.out
    assert "Traceback" in printed.err


# --- trials -----------------------------------------------------------------------------------

IDENTITY = {"method": "random", "space": "s", "seed": 0}


def die_at_work(url: str, name: str) -> Study:
    """A worker elsewhere that has announced a child and is not heard of again."""
    import dataclasses

    storage = Storage(url)
    storage.worker = dataclasses.replace(storage.worker, host="elsewhere")
    study = Study(storage, name, IDENTITY)
    assert study.start(lambda ended, ahead: True) is not None
    storage.close()
    return study


def states(study: Study) -> list[TrialState]:
    return [trial.state for trial in study._study.get_trials(deepcopy=False)]


def test_trials_are_given_back_in_the_database_of_the_run(
    local: Pod, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("NAS_STUDY_URL", url)
    local.search = {"storage": "env:NAS_STUDY_URL"}
    ours = [die_at_work(url, f"{local.key}/{arm}") for arm in ("method", "control")]
    other = die_at_work(url, f"{'7' * 32}/method")
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    assert [states(study) for study in (*ours, other)] == [
        [TrialState.FAIL],
        [TrialState.FAIL],
        [TrialState.RUNNING],
    ]


def test_a_shared_study_keeps_the_trials_of_workers_that_may_be_alive(
    local: Pod,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = postgres.new_database()
    monkeypatch.setenv("NAS_STUDY_URL", url)
    local.search = {"storage": "env:NAS_STUDY_URL", "study": "shared"}
    study = die_at_work(url, "shared/method")
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    assert states(study) == [TrialState.RUNNING]
    assert "1 trials belong to workers that were alive" in capsys.readouterr().out


def test_trials_are_given_back_in_the_file_of_the_run(local: Pod) -> None:
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    assert list(local.state.iterdir()) == [], "no study is made"
    local.search = {"storage": f"sqlite:///{local.state / 'none.db'}"}
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    assert list(local.state.iterdir()) == []
    local.search = {}
    (local.state / "search").mkdir()
    study = die_at_work(f"sqlite:///{local.state / 'search' / 'study.db'}", f"{local.key}/method")
    close_run.run(config=local.config, parameters={}, status="FAILED", message="")
    assert states(study) == [TrialState.FAIL]
