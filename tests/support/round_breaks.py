"""The ways in which the world breaks in rounds of retraining."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broken_rounds import EXPERIMENT, NAME, Break, World

_DISK_MB = 320  # a run does not start with less than 256 MB
_FILLING = "filling"
_DATABASE_AWAY_S = 5
_CHILDREN = 20  # of each arm: the method and its control


def events(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of the progress file of a run."""
    with contextlib.suppress(OSError):
        for line in (out / "progress.jsonl").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def num_children(out: Path) -> int:
    """The children that a run has trained so far."""
    return sum(one["event"] == "child" for one in events(out))


def wait_for(world: World, out: Path, step: str, what: str = "started") -> None:
    """Wait until a step of a run has an event; the end of the run before is an error."""
    while (step, what) not in {(one["step"], one["event"]) for one in events(out)}:
        assert not world.ended.is_set(), f"{step} has no event {what}"
        time.sleep(0.02)


def remove_files(world: World) -> None:
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
    world.evidence = f"{world.mlflow.num_failed} connections closed"
    world.mlflow.mode = "pass"


def _away_at_promotion(world: World, out: Path) -> None:
    wait_for(world, out, "promote")
    world.mlflow.mode = "away"
    world.ended.wait()
    world.evidence = "unreachable when the process ended"


def _refuse_conditions(world: World) -> None:
    world.store.fault = "501 to conditions"


def _read_warnings(world: World, out: Path) -> None:
    world.ended.wait()
    warnings = json.loads((out / "result.json").read_text()).get("store_warnings", [])
    world.evidence = f"{len(warnings)} warning about the store in result.json"


def _search_again(world: World) -> None:
    """Settings by which the round searches, so that it trains several children."""
    children = {"search.budget.children": str(_CHILDREN)}
    world.settings = {"retrain.max_age_days": "0.000001", **children}


def _restart_database(world: World, out: Path) -> None:
    wait_for(world, out, "search", "child")
    world.services.postgres.stop()
    count = num_children(out)
    time.sleep(_DATABASE_AWAY_S)
    world.services.postgres.start()
    while num_children(out) == count and not world.ended.is_set():
        time.sleep(0.02)
    world.ended.wait()
    world.evidence = (
        f"down {_DATABASE_AWAY_S} s after {count} of {2 * _CHILDREN} children; "
        f"{num_children(out)} at the end"
    )


def _small_disk(world: World) -> None:
    """A disk of its own for the folder of the run, in the mount namespace of this process."""
    _search_again(world)
    out = world.next_out
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "none", out], check=True)


def _fill_disk(world: World, out: Path) -> None:
    """Fill the disk once a child is trained, and each byte that is freed until the run ends."""
    wait_for(world, out, "search", "child")
    count, frees = num_children(out), []
    with open(out / _FILLING, "wb", buffering=0) as file:
        while not world.ended.is_set():
            _fill(file)
            frees.append(shutil.disk_usage(out).free)
            time.sleep(0.01)
    size_mb = (out / _FILLING).stat().st_size / 2**20
    (out / _FILLING).unlink()
    world.evidence = (
        f"after {count} of {2 * _CHILDREN} children {size_mb:.0f} of {_DISK_MB} MB were filled; "
        f"{frees.count(0)} of {len(frees)} times 0 bytes free, at most {max(frees)}"
    )


def _fill(file: Any) -> None:
    """Write until no byte fits any more."""
    for size in (2**20, 2**12, 1):
        with contextlib.suppress(OSError):
            while file.write(b"0" * size):
                pass


def _expired(world: World) -> None:
    world.changed = {"MLFLOW_TRACKING_PASSWORD": "expired"}


def _expires(world: World, out: Path) -> None:
    wait_for(world, out, "search", "child")
    world.mlflow.is_expired = True
    world.evidence = f"401 after {num_children(out)} of {2 * _CHILDREN} children, until the end"


def _delete_version(world: World, out: Path) -> None:
    wait_for(world, out, "train_final")
    version = world.champion().version
    world.client.delete_model_version(NAME, version)
    world.evidence = f"version {version} was deleted during the final training"


BREAKS = (
    Break("the champion's files are gone", remove_files),
    Break("the champion's run was removed by mlflow gc", _collect_run),
    Break("the experiment was deleted", _delete_experiment),
    Break("MLflow does not answer for 25 s at the start", during=_away_at_the_start),
    Break(
        "MLflow does not answer from the promotion until the process has ended",
        during=_away_at_promotion,
    ),
    Break("S3 refuses writes on a condition (501)", _refuse_conditions, _read_warnings),
    Break("the database restarts in mid-search", _search_again, _restart_database),
    Break("the disk is full from the first child of the search on", _small_disk, _fill_disk),
    Break("the password of MLflow has expired", _expired),
    Break("the password of MLflow expires in mid-search", _search_again, _expires),
    Break("the champion's version is deleted during the run", during=_delete_version),
)
