"""Sends events of a spool to MLflow, such that sending one twice does no harm.

`runs` finds the run of a key. A metric point carries the time of its event, and MLflow keeps equal
points once. A parameter that is there is left alone: when a retried step brings another value, the
tag `nas.changed.<name>` holds it. A parameter that is too long for MLflow is cut, and the artifact
`params/<name>.txt` holds all of it. Files are written over themselves. MLflow keeps dataset inputs
of one name and digest once.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException

from components.tracking.client import open_client, sqlite_path
from components.tracking.datasets import CONTEXT_TAG
from components.tracking.experiments import deleted
from components.tracking.mlflow_errors import brief, kind_of
from components.tracking.notes import warn
from components.tracking.reading import Refused, RunInfo
from components.tracking.runs import Runs
from components.tracking.server_checks import cannot_be_made
from components.tracking.system_metrics import Samples
from nascore.errors import InputError
from nascore.service_errors import ErrorKind

_TABLES = "mlflow.loggedArtifacts"  # by which `mlflow.load_table` and the UI know tables
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Classic training; the UI of MLflow 3.17 follows its own switch and the URL instead."""
_MODELS, _LOGGED_MODEL = "models:/", "models:/m-"
_MAX_PARAM = 6000
_SHOWN_OF_LONG = 500
_PER_CALL = 100  # parameters; MLflow's limit
_METRICS_PER_CALL = 1000  # MLflow's limit
_WITH_PARAMS = 800  # metrics in one call with parameters


class Sender:
    """Sends to one experiment of one store; adds the runs that it finds or makes to `runs`."""

    def __init__(self, spool: Path, target: dict[str, str], runs: dict[str, RunInfo]) -> None:
        self._spool = spool
        self._samples = Samples(spool)
        self._client = open_client(target["uri"])
        self._target = target
        experiment_id = self._experiment(target["uri"], target["experiment"])
        self.runs = Runs(self._client, experiment_id, runs, warn)
        self._ops: dict[str, Callable[[dict[str, Any]], None]] = {
            "run": self.runs.declare,
            "params": self._params,
            "tags": self._tags,
            "artifact": self._artifact,
            "table": self._table,
            "inputs": self._inputs,
            "model_metrics": self._model_metrics,
            "ended_run": self._ended_run,
            "end": self.runs.end,
        }

    def send(self, event: dict[str, Any]) -> None:
        """Send one event. Raises UndeclaredRun, Refused, or whatever MLflow's client raises."""
        if event["op"] not in self._ops:
            raise Refused(f"unknown event {event['op']!r}; update the follower")
        self._ops[event["op"]](event)

    def metrics(self, key: str, points: list[dict[str, Any]]) -> None:
        """Send at most 1000 points (`key`, `value`, `time_ms`, `step`) in one call."""
        metrics = [Metric(p["key"], p["value"], p["time_ms"], p["step"]) for p in points]
        self._client.log_batch(self.runs.require(key).id, metrics=metrics)

    def _experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            path = sqlite_path(uri)
            location = None if path is None else (path.parent / "mlartifacts").resolve().as_uri()
            try:
                return str(self._client.create_experiment(name, location, _EXPERIMENT_TAGS))
            except MlflowException as error:
                found = self._client.get_experiment_by_name(name)  # another process was faster
                if found is None and kind_of(error) is ErrorKind.REQUEST:  # such as a long name
                    message = cannot_be_made(error)
                    raise InputError.of("tracking.experiment", name, message) from error
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            message = deleted(uri, name, found.experiment_id)
            raise InputError.of("tracking.experiment", name, message)
        return str(found.experiment_id)

    def check_experiment(self) -> None:
        """Raise InputError if the experiment was deleted during the run."""
        self._experiment(self._target["uri"], self._target["experiment"])

    # --- what is logged to them -------------------------------------------------------------

    def _params(self, event: dict[str, Any]) -> None:
        run_id = self.runs.require(event["run"]).id
        existing = self._client.get_run(run_id).data.params
        new, changed = [], {}
        for name, whole in event["values"].items():
            value = whole if len(whole) <= _MAX_PARAM else self._long_param(run_id, name, whole)
            if name not in existing:
                new.append(Param(name, value))
            elif existing[name] != value:
                changed[f"nas.changed.{name}"] = value
        for start in range(0, len(new), _PER_CALL):
            self._client.log_batch(run_id, params=new[start : start + _PER_CALL])
        self.runs.set_tags(run_id, changed)

    def _long_param(self, run_id: str, name: str, value: str) -> str:
        self._client.log_text(run_id, value, f"params/{name}.txt")
        return f"{value[:_SHOWN_OF_LONG]}... (all of it in params/{name}.txt)"

    def _tags(self, event: dict[str, Any]) -> None:
        self.runs.set_tags(self.runs.require(event["run"]).id, event["values"])

    def _artifact(self, event: dict[str, Any]) -> None:
        run_id, path = self.runs.require(event["run"]).id, self._kept(event)
        if path.is_dir():
            folder = "/".join(part for part in (event["folder"], path.name) if part)
            self._client.log_artifacts(run_id, str(path), folder)
        else:
            self._client.log_artifact(run_id, str(path), event["folder"] or None)

    def _table(self, event: dict[str, Any]) -> None:
        run_id, path = self.runs.require(event["run"]).id, self._kept(event)
        self._client.log_artifact(run_id, str(path))
        listed = json.loads(self._client.get_run(run_id).data.tags.get(_TABLES, "[]"))
        entry = {"path": path.name, "type": "table"}
        if entry not in listed:
            self._client.set_tag(run_id, _TABLES, json.dumps([*listed, entry]))

    def _inputs(self, event: dict[str, Any]) -> None:
        run_id = self.runs.require(event["run"]).id
        inputs = []
        for one in event["datasets"]:
            fields = {name: value for name, value in one.items() if name != "context"}
            tags = [InputTag(CONTEXT_TAG, one["context"])]
            inputs.append(DatasetInput(Dataset(**fields), tags))
        try:
            self._client.log_inputs(run_id, inputs)
        except MlflowException as error:
            if error.error_code != "ENDPOINT_NOT_FOUND":
                raise
            self._client.get_run(run_id)  # raises while something else answers in its place
            raise Refused(
                "the tracking server is older than this client and knows no dataset inputs "
                f"({brief(error)}); update it to see them"
            ) from error

    def _model_metrics(self, event: dict[str, Any]) -> None:
        """Log metrics with their links, or without where the store refuses these."""
        model_id, measured_on = self._model_id(event["model"]), event["dataset"] or {}
        links = {
            "dataset_name": measured_on.get("name"),
            "dataset_digest": measured_on.get("digest"),
        }
        try:
            self._log_metrics(event, {"model_id": model_id, **links})
        except MlflowException as error:
            if model_id is None or kind_of(error) is not ErrorKind.REQUEST:
                raise
            self._log_metrics(event, {})

    def _log_metrics(self, event: dict[str, Any], links: dict[str, str | None]) -> None:
        run_id, time_ms = self.runs.require(event["run"]).id, event["time_ms"]
        metrics = [
            Metric(key, value, time_ms, 0, **links) for key, value in event["values"].items()
        ]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_CALL])

    def _model_id(self, uri: str) -> str | None:
        """Return the logged model of a version; None where there is none, or no longer."""
        name, _, version = uri.removeprefix(_MODELS).rpartition("/")
        try:
            found = self._client.get_model_version(name, version)
        except MlflowException as error:
            if kind_of(error) is not ErrorKind.REQUEST:
                raise
            return None
        # SQL stores have the logged model only as the source of the version.
        is_logged = str(found.source).startswith(_LOGGED_MODEL)
        given: str | None = found.model_id
        return given or (found.source.removeprefix(_MODELS) if is_logged else None)

    def _ended_run(self, event: dict[str, Any]) -> None:
        run_id = self.runs.make_ended(event)
        metrics = [Metric(k, v, event["time_ms"], 0) for k, v in event["metrics"].items()]
        if event["has_samples"] and event["between_ms"] is not None:
            taken = self._samples.between(event["parent"], *event["between_ms"])
            metrics += [
                Metric(key, value, time_ms, step)
                for step, (time_ms, values) in enumerate(taken)
                for key, value in values.items()
            ]
        params = [Param(k, v[:_MAX_PARAM]) for k, v in event["params"].items()]
        self._client.log_batch(run_id, metrics[:_WITH_PARAMS], params)
        for start in range(_WITH_PARAMS, len(metrics), _METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics[start : start + _METRICS_PER_CALL])
        self.runs.end_made(run_id, event)

    def _kept(self, event: dict[str, Any]) -> Path:
        path: Path = self._spool / event["path"]
        if not path.exists():
            raise Refused(f"{event['path']} is no longer in the spool")
        return path
