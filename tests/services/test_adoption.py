"""Kubeflow's MLflow plugin makes the runs, and the steps write to them.

The plugin makes one run for the pipeline, one below it for each group of tasks (exit handler,
branch, loop), and one for each task below its group; a pod is given the id of its own
(`MLFLOW_RUN_ID`), and Kubeflow's launcher ends it. Here the runs are made so, and three steps are
started as pods are: each a process of its own, with nothing in common but the artifacts that
Kubeflow carries from one to the next. Then the exit task closes what is open.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from services import Services

from components.steps.compiled import run_key_of
from components.tracking.closing import Closed, close_run, status_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXPERIMENT = "of-kubeflow"
CONFIG = {
    "method": "random",
    "data": {"max_train": 200},
    "search": {
        "budget": {"children": 3},
        "control": False,
        "space": {"name": "chain", "num_layers": 3},
        "child": {"epochs": 1, "max_steps": 4},
    },
}
STEPS = ("prepare_data", "pretrain_controller", "search")


@dataclass(frozen=True)
class Adopted:
    """Runs of the plugin by name, after the steps have ended; `pipeline` is the one above."""

    client: Any
    experiment: str
    given: dict[str, str]

    def run(self, name: str) -> Any:
        return self.client.get_run(self.given[name])

    def below(self, name: str) -> list[Any]:
        found: list[Any] = self.client.search_runs(
            [self.experiment], f"tags.`mlflow.parentRunId` = '{self.given[name]}'"
        )
        return found


@pytest.fixture(scope="module")
def adopted(services: Services) -> Iterator[Adopted]:
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        for name, value in services.steps.environment().items():
            patch.setenv(name, value)
        client = mlflow.MlflowClient(services.mlflow.uri)
        experiment = client.create_experiment(EXPERIMENT)
        given = {"pipeline": client.create_run(experiment, run_name="kfp-run").info.run_id}
        tags = {"mlflow.parentRunId": given["pipeline"]}
        group = client.create_run(experiment, run_name="kfp-exit-handler-1", tags=tags)
        given["group"] = group.info.run_id
        for step in STEPS:
            tags = {"mlflow.parentRunId": given["group"]}
            made = client.create_run(experiment, run_name=f"kfp-{step}", tags=tags)
            given[step] = made.info.run_id
        work_through(services, given, experiment)
        yield Adopted(client, experiment, given)


def work_through(services: Services, given: dict[str, str], experiment: str) -> None:
    folder = services.home / "adoption"
    config = {**CONFIG, "tracking": {"uri": services.mlflow.uri, "experiment": "ours"}}
    common: dict[str, Any] = {"dataset": folder / "dataset"}
    start(
        services,
        "prepare_data",
        given,
        experiment,
        config=json.dumps(config),
        parameters={},
        job_name="a job",
        dataset=common["dataset"],
    )
    common["run_key"] = run_key_of(common["dataset"])
    controller = folder / "controller"
    start(services, "pretrain_controller", given, experiment, **common, controller=controller)
    start(
        services,
        "search",
        given,
        experiment,
        **common,
        controller=controller,
        search_result=folder / "search_result.json",
        weights=folder / "weights",
    )


def start(
    services: Services, step: str, given: dict[str, str], experiment: str, **arguments: Any
) -> None:
    """Runs a step in a process of its own."""
    paths = {name: str(value) for name, value in arguments.items() if isinstance(value, Path)}
    others = {name: value for name, value in arguments.items() if name not in paths}
    code = f"""
from pathlib import Path
from components.steps import {step} as step
from components.steps.compiled import Compiled

more = dict(compiled=Compiled(searches=True)) if {step!r} == "prepare_data" else {{}}
step.run(**more, **{others!r}, **{{name: Path(path) for name, path in {paths!r}.items()}})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=services.home,
        env={
            **services.environment(),
            "MLFLOW_RUN_ID": given[step],
            "MLFLOW_EXPERIMENT_ID": experiment,
            "MLFLOW_TRACKING_URI": services.mlflow.uri,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_steps_write_to_the_runs_that_they_were_given(adopted: Adopted) -> None:
    assert adopted.run("prepare_data").data.metrics["num_images"] > 0
    assert adopted.run("search").data.metrics["num_children"] == 3
    history = adopted.client.get_metric_history(
        adopted.given["search"], "search/method/valid_accuracy"
    )
    assert [point.step for point in history] == [0, 1, 2]


def test_what_belongs_to_the_whole_run_is_on_the_one_above(adopted: Adopted) -> None:
    above = adopted.run("pipeline")
    assert above.data.params["method"] == "random"
    assert above.data.tags["nas.kfp_job"] == "a job"


def test_nothing_is_there_twice(adopted: Adopted) -> None:
    assert [run.info.run_name for run in adopted.below("pipeline")] == ["kfp-exit-handler-1"]
    names = {run.info.run_name for run in adopted.below("group")}
    assert names == {f"kfp-{step}" for step in STEPS}
    keys = [
        run.data.tags["nas.run_key"]
        for run in adopted.client.search_runs([adopted.experiment])
        if "nas.run_key" in run.data.tags
    ]
    assert len(keys) == len(set(keys)) == 1 + len(STEPS) + 3
    ours = adopted.client.get_experiment_by_name("ours")
    assert adopted.client.search_runs([ours.experiment_id]) == []


def test_our_runs_hang_below_those_of_the_plugin_and_end(adopted: Adopted) -> None:
    children = adopted.below("search")
    assert len(children) == 3
    assert {run.info.status for run in children} == {"FINISHED"}


def test_the_given_runs_are_left_for_the_launcher_to_end(adopted: Adopted) -> None:
    assert {adopted.run(name).info.status for name in adopted.given} == {"RUNNING"}


def test_the_exit_task_leaves_the_given_runs_open_too_and_tells_why_it_ended(
    adopted: Adopted, services: Services
) -> None:
    key = adopted.run("pipeline").data.tags["nas.run_key"]
    done = close_run(
        uri=services.mlflow.uri,
        run_key=key,
        experiment="ours",
        status="FAILED",
        reason="search: out of memory at 2 GiB",
        kind="memory",
    )
    assert done == Closed(), "our own have ended by themselves"
    for name in ("pipeline", *STEPS):
        run = adopted.run(name)
        assert run.info.status == "RUNNING"
        assert run.data.tags["nas.end_reason"] == "search: out of memory at 2 GiB"
    state = status_of(uri=services.mlflow.uri, run_key=key)
    assert state is not None
    assert state.open_keys == ()
