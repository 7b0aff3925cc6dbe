"""Worlds in which a run must be refused before it trains: how soon it is, and at what cost.

Each world has a fault of the kind that waiting does not mend. Processor time is measured too, since
other processes may load the machine.
"""

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from broken_rounds import EXPERIMENT, World, message_of
from round_breaks import events, remove_files
from services import DATA


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a command did in such a world.

    Attributes:
        seconds: from the start of the command to its end, which follows the message.
        cpu_s: processor time (user and system) of all its processes.
        has_trained: whether any child or epoch was reported.
    """

    world: str
    command: str
    status: int
    seconds: float
    cpu_s: float
    has_trained: bool
    message: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the world: settings, variables, data, or a change that `World.heal` undoes."""

    name: str
    settings: Callable[[World], dict[str, str]] = lambda world: {}
    variables: Callable[[World], dict[str, str]] = lambda world: {}
    before: Callable[[World], None] = lambda world: None
    data: Callable[[World], str] | None = None


def refusals(world: World) -> Iterator[Refusal]:
    """Yield what each command does in each world; the champion's files are removed at the end."""
    data = world.new_data()
    for fault in FAULTS:
        for command in ("retrain", "run"):
            fault.before(world)
            world.settings = {"registry.unusable_champion": "stop"} | fault.settings(world)
            world.changed = fault.variables(world)
            out = world.services.home / f"refused-{command}"
            shutil.rmtree(out, ignore_errors=True)
            done = world.nas(command, out, data=data if fault.data is None else fault.data(world))
            has_trained = any(one["event"] in ("child", "epoch", "share") for one in events(out))
            yield Refusal(
                world=fault.name,
                command=command,
                status=done.status,
                seconds=done.seconds,
                cpu_s=done.cpu_s,
                has_trained=has_trained,
                message=message_of(done),
            )
            world.heal()


def _other_classes(world: World) -> str:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, count in (("train", 320), ("test", 160)):
        arrays[f"x_{name}"] = rng.integers(0, 255, (count, 8, 8), np.uint8)
        arrays[f"y_{name}"] = np.arange(count) % 6
    file = io.BytesIO()
    np.savez(file, **arrays)
    key = "rounds/other.npz"
    world.services.s3.client().put_object(Bucket=DATA, Key=key, Body=file.getvalue())
    return f"npz:s3://{DATA}/{key}"


def _delete_experiment(world: World) -> None:
    found = world.client.get_experiment_by_name(EXPERIMENT)
    world.client.delete_experiment(found.experiment_id)


def _study(world: World, password: str) -> dict[str, str]:
    return {"NAS_STUDY_URL": world.services.study_url_with(password)}


_NO_ACCOUNT = {"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}
FAULTS = (
    Fault("the data have other classes than the champion, stop", data=_other_classes),
    Fault("the experiment is deleted", before=_delete_experiment),
    Fault(
        "the name of the experiment is too long", lambda world: {"tracking.experiment": "x" * 600}
    ),
    Fault(
        "the password of MLflow is wrong",
        variables=lambda world: {"MLFLOW_TRACKING_PASSWORD": "wrong"},
    ),
    Fault(
        "the token of MLflow has a line break",
        variables=lambda world: {**_NO_ACCOUNT, "MLFLOW_TRACKING_TOKEN": "a\nb"},
    ),
    Fault("tracking.uri is an S3 store", lambda world: {"tracking.uri": world.store.url}),
    Fault(
        "tracking.uri speaks http, not https",
        lambda world: {"tracking.uri": world.services.mlflow.uri.replace("http", "https")},
    ),
    Fault("the key of S3 is wrong", variables=lambda world: {"AWS_SECRET_ACCESS_KEY": "wrong"}),
    Fault(
        "there are no data at this address", data=lambda world: f"npz:s3://{DATA}/rounds/none.npz"
    ),
    Fault(
        "there is no bucket for exported files",
        lambda world: {"promote.export_to": "s3://no-such-bucket/rounds"},
    ),
    Fault(
        "the password of the study's database is wrong",
        variables=lambda world: _study(world, "wrong"),
    ),
    Fault(
        "the study's database belongs to MLflow",
        variables=lambda world: {"NAS_STUDY_URL": world.services.mlflow_url},
    ),
    Fault("the champion's files are gone, stop", before=remove_files),
)
