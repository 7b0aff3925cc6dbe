"""Sends events of a spool to MLflow, such that sending one twice does no harm.

A run is found by the tag `nas.run_key` before one is made. A metric point carries the time of its
event, and MLflow keeps equal points once. A parameter that is there is left alone: when a retried
step brings another value, the tag `nas.changed.<name>` holds it. A parameter that is too long for
MLflow is cut, and the artifact `params/<name>.txt` holds all of it. Files are written over
themselves.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.tracking.reading import RunInfo
from components.tracking.stores import sqlite_path

RUN_KEY = "nas.run_key"

_PARENT = "mlflow.parentRunId"
_TABLES = "mlflow.loggedArtifacts"  # by which `mlflow.load_table` and the UI know tables
_MAX_PARAM = 6000
_MAX_TAG = 5000
_SHOWN_OF_LONG = 500
_PER_CALL = 100  # parameters or tags; MLflow's limit


class UndeclaredRun(LookupError):
    """Nobody has declared the run yet."""


class Refused(Exception):
    """The event can never be sent."""


def make_store(uri: str) -> None:
    """Makes the SQLite file of a store that is not there yet; it appears whole or not at all.

    MLflow makes its tables in dozens of steps, which take seconds. A process that is killed between
    two of them would leave a file that no later one can use.
    """
    path = sqlite_path(uri)
    if path is None or path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        made = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{made}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # somebody else was quicker
            os.link(made, path)


class Sender:
    """Sends to one experiment of one store; `runs` is filled with what is learnt of the runs."""

    def __init__(self, spool: Path, target: dict[str, str], runs: dict[str, RunInfo]) -> None:
        from mlflow import MlflowClient

        self._spool = spool
        self._runs = runs
        path = sqlite_path(target["uri"])
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        make_store(target["uri"])
        self._client = MlflowClient(tracking_uri=target["uri"])
        self._experiment_id = self._experiment(target["uri"], target["experiment"])
        self._ops: dict[str, Callable[[dict[str, Any]], None]] = {
            "run": self._run,
            "params": self._params,
            "tags": self._tags,
            "artifact": self._artifact,
            "table": self._table,
            "end": self._end,
        }

    def send(self, event: dict[str, Any]) -> None:
        """Raises UndeclaredRun, Refused, or what MLflow raises when the store is away."""
        if event["op"] not in self._ops:
            raise Refused(f"unknown event {event['op']!r}; update the follower")
        self._ops[event["op"]](event)

    def metrics(self, key: str, points: list[dict[str, Any]]) -> None:
        """At most 1000 points (`key`, `value`, `time_ms`, `step`) in one call."""
        from mlflow.entities import Metric

        metrics = [Metric(p["key"], p["value"], p["time_ms"], p["step"]) for p in points]
        self._client.log_batch(self.require(key).id, metrics=metrics)

    def require(self, key: str) -> RunInfo:
        """The run of a key; raises UndeclaredRun."""
        run = self._runs.get(key) or self._find(key, self._experiment_id)
        if run is None:
            raise UndeclaredRun(f"run {key!r} was not declared")
        self._runs[key] = run
        return run

    # --- the experiment and the runs --------------------------------------------------------

    def _experiment(self, uri: str, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            path = sqlite_path(uri)
            location = None if path is None else (path.parent / "mlartifacts").resolve().as_uri()
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                found = self._client.get_experiment_by_name(name)  # somebody was faster
                if found is None:
                    raise error
        if found.lifecycle_stage != "active":
            raise RuntimeError(
                f"experiment {name!r} is deleted; restore it in MLflow, or set tracking.experiment"
            )
        return str(found.experiment_id)

    def _run(self, event: dict[str, Any]) -> None:
        key = event["run"]
        parent = None if event["parent"] is None else self.require(event["parent"])
        experiment_id = self._experiment_id if parent is None else parent.experiment_id
        known = self._runs.get(key) or self._adopt(event) or self._find(key, experiment_id)
        if known is None:
            self._runs[key] = self._create(event, parent, experiment_id)
            return
        self._runs[key] = known
        self._set_tags(known.id, {RUN_KEY: key, **event["values"]})
        status = self._client.get_run(known.id).info.status
        if status != "RUNNING" and not known.adopted:
            self._client.update_run(known.id, status="RUNNING")  # a retried step goes on with it

    def _adopt(self, event: dict[str, Any]) -> RunInfo | None:
        from mlflow.exceptions import MlflowException

        given = event["adopt"] or event["adopt_parent_of"]
        if given is None:
            return None
        try:
            run = self._client.get_run(given)
            above = run.data.tags.get(_PARENT)
            if event["adopt"] is None and above is not None:
                run = self._client.get_run(above)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
        taken = {known.id for known in self._runs.values()}
        if run.info.run_id in taken:
            return None
        return RunInfo(run.info.run_id, str(run.info.experiment_id), adopted=True)

    def _find(self, key: str, experiment_id: str) -> RunInfo | None:
        runs = self._client.search_runs(
            [experiment_id],
            f"tags.`{RUN_KEY}` = '{key}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return RunInfo(runs[0].info.run_id, experiment_id) if runs else None

    def _create(self, event: dict[str, Any], parent: RunInfo | None, experiment_id: str) -> RunInfo:
        tags = {RUN_KEY: event["run"], **{k: v[:_MAX_TAG] for k, v in event["values"].items()}}
        if parent is not None:
            tags[_PARENT] = parent.id
        run = self._client.create_run(
            experiment_id, start_time=event["time_ms"], tags=tags, run_name=event["name"]
        )
        return RunInfo(run.info.run_id, experiment_id)

    def _end(self, event: dict[str, Any]) -> None:
        run = self.require(event["run"])
        if not run.adopted:
            self._client.set_terminated(run.id, event["status"], end_time=event["time_ms"])

    # --- what is logged to them -------------------------------------------------------------

    def _params(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Param

        run_id = self.require(event["run"]).id
        there = self._client.get_run(run_id).data.params
        new, changed = [], {}
        for name, whole in event["values"].items():
            value = whole if len(whole) <= _MAX_PARAM else self._long_param(run_id, name, whole)
            if name not in there:
                new.append(Param(name, value))
            elif there[name] != value:
                changed[f"nas.changed.{name}"] = value
        for start in range(0, len(new), _PER_CALL):
            self._client.log_batch(run_id, params=new[start : start + _PER_CALL])
        self._set_tags(run_id, changed)

    def _long_param(self, run_id: str, name: str, value: str) -> str:
        self._client.log_text(run_id, value, f"params/{name}.txt")
        return f"{value[:_SHOWN_OF_LONG]}... (all of it in params/{name}.txt)"

    def _tags(self, event: dict[str, Any]) -> None:
        self._set_tags(self.require(event["run"]).id, event["values"])

    def _set_tags(self, run_id: str, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value[:_MAX_TAG]) for name, value in values.items()]
        for start in range(0, len(tags), _PER_CALL):
            self._client.log_batch(run_id, tags=tags[start : start + _PER_CALL])

    def _artifact(self, event: dict[str, Any]) -> None:
        run_id, path = self.require(event["run"]).id, self._kept(event)
        if path.is_dir():
            folder = "/".join(part for part in (event["folder"], path.name) if part)
            self._client.log_artifacts(run_id, str(path), folder)
        else:
            self._client.log_artifact(run_id, str(path), event["folder"] or None)

    def _table(self, event: dict[str, Any]) -> None:
        run_id, path = self.require(event["run"]).id, self._kept(event)
        self._client.log_artifact(run_id, str(path))
        listed = json.loads(self._client.get_run(run_id).data.tags.get(_TABLES, "[]"))
        entry = {"path": path.name, "type": "table"}
        if entry not in listed:
            self._client.set_tag(run_id, _TABLES, json.dumps([*listed, entry]))

    def _kept(self, event: dict[str, Any]) -> Path:
        path: Path = self._spool / event["path"]
        if not path.exists():
            raise Refused(f"{event['path']} is no longer in the spool")
        return path
