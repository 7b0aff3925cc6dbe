"""The sending side: replays a spool to MLflow, in order and exactly once, as long as it takes.

    python -m components.tracking.follow --spool FOLDER

It may be killed anywhere. The position in each writer's file is written after what it covers was
sent, so an event may be sent twice; each kind of event is harmless when it is: a run is found by the
tag `nas.run_key` before one is made, a metric point carries the time of its event (MLflow keeps equal
points once), a parameter that is there is not written again, and files are written over themselves.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The defaults wait for minutes in one call; here the loop below does the waiting.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from components.tracking.spool import CLOSED, EVENTS, TARGET  # noqa: E402 (after the settings)
from components.tracking.stores import redact, sqlite_path  # noqa: E402

RUN_KEY = "nas.run_key"
_POSITION = "position.json"
_REJECTED = "rejected.jsonl"
_POLL_S = 0.2
_MAX_WAIT_S = 15.0
_MAX_PARAM = 6000
_METRICS_PER_CALL = 1000
# Errors that the same call will meet again: the event is put aside instead of blocking the rest.
_FINAL_CODES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


@dataclass
class _Batch:
    """Consecutive metric events of one run, sent in one call."""

    run: str = ""
    points: list[dict[str, Any]] = field(default_factory=list)


class Sender:
    """Sends events to one experiment of one store."""

    def __init__(self, spool: Path) -> None:
        from mlflow import MlflowClient

        target = json.loads((spool / TARGET).read_text())
        self._spool = spool
        self._client = MlflowClient(tracking_uri=target["uri"])
        self._experiment_id = self._experiment(target["uri"], target["experiment"])
        self._ids: dict[str, str] = {}
        self._adopted: set[str] = set()

    def send(self, event: dict[str, Any]) -> None:
        getattr(self, f"_{event['op']}")(event)

    def metrics(self, run: str, points: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(p["key"], p["value"], p["time_ms"], p["step"]) for p in points]
        self._client.log_batch(self._id(run), metrics=metrics)

    def _experiment(self, uri: str, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        path = sqlite_path(uri)
        location = None if path is None else (path.parent / "mlartifacts").resolve().as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _run(self, event: dict[str, Any]) -> None:
        key = event["run"]
        if event["adopt"]:
            self._ids[key] = event["adopt"]
            self._adopted.add(key)
        elif event["adopt_parent_of"]:
            tags = self._client.get_run(event["adopt_parent_of"]).data.tags
            if "mlflow.parentRunId" in tags:
                self._ids[key] = tags["mlflow.parentRunId"]
                self._adopted.add(key)
        if key not in self._ids:
            self._ids[key] = self._find(key) or self._create(event)
        elif key in self._adopted:
            self._client.set_tag(self._ids[key], RUN_KEY, key)
        run = self._client.get_run(self._ids[key])
        if run.info.status != "RUNNING" and key not in self._adopted:
            self._client.update_run(self._ids[key], status="RUNNING")  # a retry goes on with it
        for name, value in event["values"].items():
            self._client.set_tag(self._ids[key], name, value)

    def _create(self, event: dict[str, Any]) -> str:
        tags = {RUN_KEY: event["run"]}
        if event["parent"] is not None:
            tags["mlflow.parentRunId"] = self._id(event["parent"])
        run = self._client.create_run(
            self._experiment_id,
            start_time=event["time_ms"],
            tags=tags,
            run_name=event["name"],
        )
        return str(run.info.run_id)

    def _find(self, key: str) -> str | None:
        runs = self._client.search_runs(
            [self._experiment_id], f"tags.`{RUN_KEY}` = '{key}'", max_results=1
        )
        return str(runs[0].info.run_id) if runs else None

    def _id(self, key: str) -> str:
        if key not in self._ids:
            found = self._find(key)
            if found is None:
                raise KeyError(f"run {key!r} was not declared")
            self._ids[key] = found
        return self._ids[key]

    def _params(self, event: dict[str, Any]) -> None:
        from mlflow.entities import Param

        run_id = self._id(event["run"])
        there = self._client.get_run(run_id).data.params
        new = []
        for name, value in event["values"].items():
            if name not in there:
                new.append(Param(name, value[:_MAX_PARAM]))
            elif there[name] != value[:_MAX_PARAM]:
                # MLflow refuses another value; a retried step may have one.
                self._client.set_tag(run_id, f"nas.changed.{name}", value)
        for start in range(0, len(new), 100):
            self._client.log_batch(run_id, params=new[start : start + 100])

    def _tags(self, event: dict[str, Any]) -> None:
        for name, value in event["values"].items():
            self._client.set_tag(self._id(event["run"]), name, value)

    def _artifact(self, event: dict[str, Any]) -> None:
        path = self._spool / event["path"]
        run_id, folder = self._id(event["run"]), event["folder"] or None
        if path.is_dir():
            self._client.log_artifacts(
                run_id, str(path), f"{folder}/{path.name}" if folder else path.name
            )
        else:
            self._client.log_artifact(run_id, str(path), folder)

    def _table(self, event: dict[str, Any]) -> None:
        run_id, path = self._id(event["run"]), self._spool / event["path"]
        self._client.log_artifact(run_id, str(path))
        # The tag by which `mlflow.load_table` and the UI know that an artifact is a table.
        tag = "mlflow.loggedArtifacts"
        listed = json.loads(self._client.get_run(run_id).data.tags.get(tag, "[]"))
        entry = {"path": path.name, "type": "table"}
        if entry not in listed:
            self._client.set_tag(run_id, tag, json.dumps([*listed, entry]))

    def _end(self, event: dict[str, Any]) -> None:
        if event["run"] not in self._adopted:
            self._client.set_terminated(
                self._id(event["run"]), event["status"], end_time=event["time_ms"]
            )


class Follower:
    """Reads the writers' files from where the last follower stopped."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._position_file = spool / _POSITION
        self._position: dict[str, int] = (
            json.loads(self._position_file.read_text()) if self._position_file.exists() else {}
        )
        self._sender: Sender | None = None

    def pending(self) -> int:
        """Bytes that are written and not sent."""
        return sum(path.stat().st_size - self._position.get(path.name, 0) for path in self._files())

    def drain(self) -> None:
        """Sends all that is there; raises what the store raised, with nothing lost."""
        if self._sender is None:
            self._sender = Sender(self._spool)
        for path in self._files():
            batch = _Batch()
            sent = self._position.get(path.name, 0)
            for event, end in _events(path, sent):
                if batch.points and (
                    event["op"] != "metrics"
                    or event["run"] != batch.run
                    or len(batch.points) + len(event["values"]) > _METRICS_PER_CALL
                ):
                    self._send_batch(batch)
                    self._save(path, sent)
                    batch = _Batch()
                if event["op"] == "metrics":
                    batch.run = event["run"]
                    batch.points += [
                        {"key": k, "value": v, "time_ms": event["time_ms"], "step": event["step"]}
                        for k, v in event["values"].items()
                    ]
                else:
                    self._attempt(event, lambda event=event: self._sender.send(event))  # type: ignore[misc]
                    self._save(path, end)
                sent = end
            if batch.points:
                self._send_batch(batch)
            self._save(path, sent)

    def _send_batch(self, batch: _Batch) -> None:
        sender = self._sender
        assert sender is not None
        event = {"op": "metrics", "run": batch.run, "values": batch.points}
        self._attempt(event, lambda: sender.metrics(batch.run, batch.points))

    def _attempt(self, event: dict[str, Any], send: Any) -> None:
        """Sends, or puts an event aside that the store will never take."""
        from mlflow.exceptions import MlflowException

        try:
            send()
        except KeyError as error:
            self._reject(event, error)
        except MlflowException as error:
            if error.error_code not in _FINAL_CODES:
                raise
            self._reject(event, error)

    def _reject(self, event: dict[str, Any], error: Exception) -> None:
        _warn(f"the store refuses an event, it is kept in {self._spool / _REJECTED}: {error}")
        with open(self._spool / _REJECTED, "a", encoding="utf-8") as file:
            file.write(json.dumps({**event, "error": str(error)}) + "\n")

    def _files(self) -> list[Path]:
        return sorted((self._spool / EVENTS).glob("*.jsonl"))

    def _save(self, path: Path, position: int) -> None:
        if self._position.get(path.name) == position:
            return
        self._position[path.name] = position
        temporary = self._position_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._position))
        os.replace(temporary, self._position_file)


def _events(path: Path, start: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Whole lines from byte `start`, each with the byte after it; a torn last line waits."""
    with open(path, "rb") as file:
        file.seek(start)
        position = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            yield json.loads(line), position


def follow(spool: Path) -> int:
    """Sends until the spool is closed and empty; 0 then, 3 when it was told to end before."""
    follower = Follower(spool)
    wait, away = _POLL_S, False
    while True:
        closed = (spool / CLOSED).exists()
        if (spool / TARGET).exists() and follower.pending():
            try:
                follower.drain()
                if away:
                    _warn("the tracking server answers again; everything kept so far is sent")
                wait, away = _POLL_S, False
            except Exception as error:  # whatever a store can raise: it is told, and tried again
                if not away:
                    _warn(
                        f"the tracking store is away ({_brief(error)}); the run goes on, "
                        f"what it logs is kept in {spool}"
                    )
                away = True
                wait = min(2 * wait, _MAX_WAIT_S)
        elif closed:
            return 0
        time.sleep(wait)


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return redact(f"{type(error).__name__}: {lines[0] if lines else ''}"[:300])


def _warn(text: str) -> None:
    print(f"tracking: {text}", file=sys.stderr, flush=True)
    path = os.environ.get("NAS_PROGRESS_FILE")
    if path:
        line = {"time": time.time(), "step": "tracking", "event": "note", "text": text}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spool", type=Path, required=True)
    spool = parser.parse_args().spool
    try:
        return follow(spool)
    finally:
        left = Follower(spool).pending() if (spool / TARGET).exists() else 0
        if left:
            _warn(
                f"{left} bytes are not sent yet; send them when the server is back with\n"
                f"  python -m components.tracking.follow --spool {spool}"
            )


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(3))
    sys.exit(main())
