"""Retraining in rounds, in each of which the world breaks in another way.

The data change with each round such that the champion of an earlier round is wrong about them: the
patterns of the classes rotate. So a round in which nothing is broken always has a better model.
"""

import base64
import io
import os
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
_ACCOUNT = re.compile(rb"(?<=\r\nAuthorization: )Basic [^\r]+", re.IGNORECASE)
_EXPIRED = b"Basic " + base64.b64encode(b"nas-steps:expired")
SETTINGS = {
    "method": "random",
    "search.space.num_stages": "1",
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
class Ended:
    """A command that has ended.

    Attributes:
        text: what it has written.
        cpu_s: processor time (user and system) of it and of all its processes.
    """

    status: int
    text: str
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round ended.

    Attributes:
        status: exit status of `nas retrain`.
        message: what it said, one line.
        evidence: what was seen of the break while it lasted.
        is_promoted: whether the champion is another version than before.
        faults: of the registry afterwards.
        open_runs: MLflow runs that are still RUNNING afterwards.
    """

    status: int
    message: str
    seconds: float
    cpu_s: float
    evidence: str
    is_promoted: bool
    faults: tuple[str, ...]
    open_runs: tuple[str, ...]


class MlflowRelay(Relay):
    """Before an MLflow server; with `is_expired`, it passes on another password than it was given.

    So the answers are those of the real server to a wrong password.
    """

    is_expired = False

    def altered(self, head: bytes) -> bytes:
        """Return the head of a request as the server gets it."""
        return _ACCOUNT.sub(_EXPIRED, head) if self.is_expired else head


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
    evidence: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    mlflow: MlflowRelay = field(init=False)
    store: UnkindRelay = field(init=False)

    def __post_init__(self) -> None:
        self.mlflow = MlflowRelay(self.services.mlflow.port)
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
        """What is wrong with the registry now, MLflow runs aside."""
        return registry_faults(self.client, NAME, uri=self.services.mlflow.uri, experiments={})

    def open_runs(self) -> list[str]:
        """The MLflow runs that are RUNNING now."""
        found = self.client.search_experiments(filter_string=f"name LIKE '{EXPERIMENT}%'")
        ids = [one.experiment_id for one in found]
        runs = self.client.search_runs(ids, "attributes.status = 'RUNNING'")
        return [str(run.info.run_name) for run in runs]

    @property
    def next_out(self) -> Path:
        """The folder of the next round."""
        return self.services.home / f"round-{self.round + 1}"

    def nas(self, command: str, out: Path, *, data: str) -> Ended:
        """Call `nas run` or `nas retrain` with the settings of the rounds and of the break."""
        every = {**SETTINGS, "tracking.uri": self.mlflow.url, "seed": str(self.seed)}
        words = [sys.executable, "-m", "pipelines.cli", command, f"--out={out}", f"--data={data}"]
        words += [f"--set={key}={value}" for key, value in (every | self.settings).items()]
        environment = self.services.environment() | {"AWS_ENDPOINT_URL": self.store.url}
        log = self.services.home / f"{out.name}.log"
        start = time.monotonic()
        with open(log, "wb") as file:
            process = subprocess.Popen(
                words,
                cwd=self.services.home,
                env=environment | self.changed,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
            timer = threading.Timer(_TIMEOUT_S, process.terminate)
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        return Ended(
            process.returncode,
            log.read_text(errors="replace"),
            time.monotonic() - start,
            usage.ru_utime + usage.ru_stime,
        )

    def retrain(self, during: "Callable[[World, Path], None] | None" = None) -> Outcome:
        """Call `nas retrain` on new data; `during` runs at the same time."""
        out = self.next_out
        self.round += 1
        champion = self.champion()
        before = None if champion is None else champion.version
        data = self.new_data()
        self.ended.clear()
        thread = threading.Thread(target=during or (lambda *_: None), args=(self, out), daemon=True)
        thread.start()
        done = self.nas("retrain", out, data=data)
        self.ended.set()
        thread.join(60)
        evidence = self.evidence
        self.heal()
        champion = self.champion()
        return Outcome(
            status=done.status,
            message=message_of(done),
            seconds=done.seconds,
            cpu_s=done.cpu_s,
            evidence=evidence,
            is_promoted=champion is not None and champion.version != before,
            faults=tuple(self.faults()),
            open_runs=tuple(self.open_runs()),
        )

    def heal(self) -> None:
        """Restore every service; what is deleted stays deleted."""
        self.mlflow.mode, self.store.fault = "pass", ""
        self.mlflow.is_expired = False
        self.changed, self.settings, self.evidence = {}, {}, ""
        for one in self.client.search_experiments(view_type=2):
            if one.name == EXPERIMENT:
                self.client.restore_experiment(one.experiment_id)

    def new_data(self) -> str:
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


def message_of(done: Ended) -> str:
    """The last thing that a failed command says, or the decision of one that succeeded."""
    lines = [line.strip() for line in done.text.splitlines() if line.strip()]
    if done.status == 0:
        notes = [line for line in lines if re.search(r"champion|unreachable|does not answer", line)]
        return notes[0] if notes else lines[-1]
    for place, line in enumerate(lines):
        if line.startswith(("The step", "The input is wrong")):
            end = next((at for at in range(place, len(lines)) if "log: " in lines[at]), place + 2)
            return " ".join(lines[place:end])
    return lines[-1] if lines else ""


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
        is_well = outcome.is_promoted and not outcome.faults and not outcome.open_runs
        if not is_well:
            yield GOOD, world.retrain()
    if is_well:
        yield GOOD, world.retrain()
