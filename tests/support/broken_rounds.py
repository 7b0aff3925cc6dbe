"""Retraining in rounds, in each of which the world breaks in another way.

The data change with each round such that the champion of an earlier round is wrong about them: the
patterns of the classes rotate. So a round in which nothing is broken always has a better model.
"""

import contextlib
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from registry_soundness import registry_faults
from s3 import Relay
from services import DATA, Services
from unkind_s3 import UnkindRelay

NAME, EXPERIMENT = "rounds", "rounds"
GOOD = "nothing (the next good round)"
_EXPORTS = "rounds-exported"  # bucket
_CLASSES, _SIZE = 4, 8
_IMAGES = {"x_train": 320, "x_test": 160}
_TIMEOUT_S = 420
SETTINGS = {
    "method": "random",
    "search.space.num_layers": "2",
    "search.budget.children": "1",
    "search.child.epochs": "2",
    "search.storage": "env:NAS_STUDY_URL",
    "train.epochs": "6",
    "latency.runs": "20",
    "latency.warmup_runs": "1",
    "registry.model": NAME,
    "tracking.experiment": EXPERIMENT,
    "promote.export_to": f"s3://{_EXPORTS}/rounds",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round ended.

    Attributes:
        status: exit status of `nas retrain`.
        message: what it said, one line.
        is_promoted: whether the champion is another version than before.
        faults: of the registry afterwards.
    """

    status: int
    message: str
    seconds: float
    is_promoted: bool
    faults: tuple[str, ...]


def variables(services: Services) -> dict[str, str]:
    """Return the variables with which a `World` must be made: account and address of MLflow."""
    uri = services.mlflow.uri
    addresses = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri}
    return services.steps.environment() | addresses


@dataclass(slots=True)
class World:
    """Real services, and relays before the MLflow server and the S3 store."""

    services: Services
    seed: int = 0
    round: int = 0
    changed: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    wrap: Callable[[list[str], Path], list[str]] = lambda command, out: command
    mlflow: Relay = field(init=False)
    store: UnkindRelay = field(init=False)

    def __post_init__(self) -> None:
        self.mlflow = Relay(self.services.mlflow.port)
        self.store = UnkindRelay(self.services.s3.port)
        self.services.s3.bucket(_EXPORTS)

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.services.mlflow.uri, self.services.mlflow.uri)

    def champion(self) -> Any:
        """The version of the champion; None without one."""
        try:
            return self.client.get_model_version_by_alias(NAME, "champion")
        except mlflow.MlflowException:
            return None

    def faults(self) -> list[str]:
        """What is wrong with the registry now."""
        found = self.client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
        return registry_faults(
            self.client,
            NAME,
            uri=self.services.mlflow.uri,
            experiments={one.name: one.experiment_id for one in found},
        )

    def retrain(self, during: "Callable[[World, Path], None] | None" = None) -> Outcome:
        """Call `nas retrain` on new data; `during` runs at the same time."""
        self.round += 1
        out = self.services.home / f"round-{self.round}"
        champion = self.champion()
        before = None if champion is None else champion.version
        every = {**SETTINGS, "tracking.uri": self.mlflow.url, "seed": str(self.seed)}
        command = [sys.executable, "-m", "pipelines.cli", "retrain", f"--out={out}"]
        command += [f"--data={self._new_data()}"]
        command += [f"--set={key}={value}" for key, value in (every | self.settings).items()]
        environment = self.services.environment() | {"AWS_ENDPOINT_URL": self.store.url}
        start = time.monotonic()
        thread = threading.Thread(target=during or (lambda *_: None), args=(self, out), daemon=True)
        thread.start()
        done = subprocess.run(
            self.wrap(command, out),
            cwd=self.services.home,
            env=environment | self.changed,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        seconds = time.monotonic() - start
        (self.services.home / f"round-{self.round}.log").write_text(done.stdout + done.stderr)
        self.heal()
        thread.join(60)
        champion = self.champion()
        is_promoted = champion is not None and champion.version != before
        return Outcome(done.returncode, _message(done), seconds, is_promoted, tuple(self.faults()))

    def heal(self) -> None:
        """Restore every service; what is deleted stays deleted."""
        self.mlflow.mode, self.store.fault = "pass", ""
        self.changed, self.settings = {}, {}
        self.wrap = lambda command, out: command
        for one in self.client.search_experiments(view_type=2):
            if one.name == EXPERIMENT:
                self.client.restore_experiment(one.experiment_id)

    def _new_data(self) -> str:
        """Put the data of this round into the bucket: each class has the pattern of the next."""
        rng = np.random.default_rng([self.seed, self.round])
        patterns = np.random.default_rng(0).integers(40, 216, (_CLASSES, _SIZE, _SIZE))
        arrays: dict[str, Any] = {}
        for name, count in _IMAGES.items():
            labels = np.arange(count) % _CLASSES
            noise = rng.normal(0, 25, (count, _SIZE, _SIZE))
            images = patterns[(labels + self.round) % _CLASSES] + noise
            arrays[name] = np.clip(images, 0, 255).astype(np.uint8)
            arrays[name.replace("x_", "y_")] = labels.astype(np.int64)
        file = io.BytesIO()
        np.savez(file, **arrays)
        key = f"rounds/{self.round}.npz"
        self.services.s3.client().put_object(Bucket=DATA, Key=key, Body=file.getvalue())
        return f"npz:s3://{DATA}/{key}"


def _message(done: "subprocess.CompletedProcess[str]") -> str:
    """The last thing that a failed command says, or the decision of one that succeeded."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode == 0:
        notes = [line for line in lines if re.search(r"champion|unreachable|does not answer", line)]
        return notes[0] if notes else lines[-1]
    for place, line in enumerate(lines):
        if line.startswith(("The step", "The input is wrong")):
            return " ".join(lines[place : place + 1 + ("input is wrong" in line)])
    return lines[-1] if lines else ""


def wait_for(out: Path, step: str, what: str = "started", *, limit_s: float = 240) -> None:
    """Wait until a step of a run has started, or until another of its events."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            for line in (out / "progress.jsonl").read_text().splitlines():
                event = json.loads(line)
                if (event["step"], event["event"]) == (step, what):
                    return
        time.sleep(0.05)
    raise AssertionError(f"{step} has no event {what}")


# --- the ways in which the world breaks -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Break:
    """One way in which the world breaks.

    Attributes:
        before: called before the round.
        during: called during the round, with the folder of the run.
    """

    name: str
    before: Callable[[World], None] = lambda world: None
    during: Callable[[World, Path], None] | None = None


def _remove_files(world: World) -> None:
    model = world.champion().source.rpartition("/")[2]
    client = world.services.s3.client()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="nas-mlflow"):
        for one in page.get("Contents", ()):
            if model in one["Key"]:
                client.delete_object(Bucket="nas-mlflow", Key=one["Key"])


def _collect_run(world: World) -> None:
    run_id = world.champion().run_id
    world.client.delete_run(run_id)
    admin = world.services.mlflow.admin
    assert admin is not None
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mlflow", "gc", "--run-ids", run_id),
            *("--backend-store-uri", world.services.mlflow_url),
            *("--tracking-uri", world.services.mlflow.uri),
        ],
        env={**world.services.environment(), **admin.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _delete_experiment(world: World) -> None:
    found = world.client.get_experiment_by_name(EXPERIMENT)
    world.client.delete_experiment(found.experiment_id)


def _away_at_the_start(world: World, out: Path) -> None:
    world.mlflow.mode = "away"
    time.sleep(25)
    world.mlflow.mode = "pass"


def _away_at_promotion(world: World, out: Path) -> None:
    wait_for(out, "promote")
    world.mlflow.mode = "away"
    wait_for(out, "promote", "failed")
    world.mlflow.mode = "pass"


def _refuse_conditions(world: World) -> None:
    world.store.fault = "501 to conditions"


def _search_again(world: World) -> None:
    world.settings = {"retrain.max_age_days": "0.000001", "search.budget.children": "40"}


def _restart_database(world: World, out: Path) -> None:
    wait_for(out, "search", "child")
    world.services.postgres.stop()
    time.sleep(5)
    world.services.postgres.start()


def _small_disk(world: World) -> None:
    """A disk of its own for the run, in a namespace of mounts that ends with it."""

    def wrap(command: list[str], out: Path) -> list[str]:
        fill = (
            f"mkdir -p {out} && mount -t tmpfs -o size=300m none {out} || exit 77; "
            f"(until grep -q train_final {out}/progress.jsonl 2>/dev/null; do sleep 0.1; done; "
            f"dd if=/dev/zero of={out}/state/fill bs=1M) >/dev/null 2>&1 & "
            '"$@"'
        )
        return ["unshare", "--mount", "sh", "-c", fill, "sh", *command]

    world.wrap = wrap


def _expired(world: World) -> None:
    world.changed = {"MLFLOW_TRACKING_PASSWORD": "expired"}


def _delete_version(world: World, out: Path) -> None:
    wait_for(out, "train_final")
    world.client.delete_model_version(NAME, world.champion().version)


BREAKS = (
    Break("the champion's files are gone", _remove_files),
    Break("the champion's run was removed by mlflow gc", _collect_run),
    Break("the experiment was deleted", _delete_experiment),
    Break("MLflow does not answer for 25 s at the start", during=_away_at_the_start),
    Break("MLflow does not answer from the promotion until its end", during=_away_at_promotion),
    Break("S3 refuses writes on a condition (501)", _refuse_conditions),
    Break("the database restarts in mid-search", _search_again, _restart_database),
    Break("the disk is full from the final training on", _small_disk),
    Break("the password of MLflow has expired", _expired),
    Break("the champion's version is deleted during the run", during=_delete_version),
)


def rounds(world: World, breaks: tuple[Break, ...]) -> Iterator[tuple[str, Outcome]]:
    """Yield name and outcome of each round; a good one follows a broken one that promoted nothing.

    Args:
        world: services in which no model is registered yet.
        breaks: what breaks, in this order.
    """
    yield "nothing (the first champion)", world.retrain()
    is_well = True
    for one in breaks:
        one.before(world)
        outcome = world.retrain(one.during)
        yield one.name, outcome
        is_well = outcome.is_promoted and not outcome.faults
        if not is_well:
            yield GOOD, world.retrain()
    if is_well:
        yield GOOD, world.retrain()
