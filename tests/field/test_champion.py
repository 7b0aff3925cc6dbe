"""Field troubles of registries whose champion is damaged, by `nas` on an MLflow store in a file."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import field_commands
import pytest
from field_commands import TINY, Ended, together
from mlflow import MlflowClient
from registered_models import Constant, House

pytestmark = pytest.mark.slow
SMALLEST = ("search.budget.children=1", "registry.model=net")


def nas(folder: Path, *arguments: str, **changed: object) -> Ended:
    """Call the command in a folder; settings only for commands that run a pipeline."""
    settings = (f"{name.replace('__', '.')}={value}" for name, value in changed.items())
    every = together(*TINY, *SMALLEST, *settings)
    is_rollback = arguments[0] == "rollback"
    return field_commands.nas(
        *arguments, folder=folder, settings=("registry.model=net",) if is_rollback else every
    )


@pytest.fixture
def trained(tmp_path: Path, empty_store: Path) -> Path:
    """A folder with a store, and a champion for the digits that are the default data."""
    folder = tmp_path / "work"
    (folder / "runs").mkdir(parents=True)
    shutil.copyfile(empty_store, folder / "runs" / "mlflow.db")
    house = House(f"sqlite:///{folder}/runs/mlflow.db", folder / "runs")
    house.enter(Constant(0, num_classes=10))
    return folder


def registry(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")


def examined(folder: Path, *options: str) -> str:
    """Return what `nas doctor` says about the champion."""
    done = nas(folder, "doctor", "--json", *options)
    rows, _ = json.JSONDecoder().raw_decode(done.out)  # what libraries log comes after it
    (row,) = [row for row in rows if row["check"] == "champion"]
    return f"{row['status']} champion: {row['detail'].partition(' in file://')[0]}"


def champion(folder: Path) -> str:
    return str(registry(folder).get_model_version_by_alias("net", "champion").version)


def test_files_that_moved_with_their_folder(trained: Path, field: Callable[..., None]) -> None:
    moved = trained.rename(trained.with_name("moved"))
    doctor = examined(moved)
    assert doctor.startswith("problem champion: net: the champion (version 1) has no files")
    refused = nas(moved, "run", "--out=second")
    assert refused.status == 2, refused.err
    assert "the champion (version 1) has no files any more in" in refused.err
    assert "--set registry.unusable_champion=replace" in refused.err
    assert not (moved / "second").exists()
    assert "Running" not in refused.out + refused.err, "no process of the pipeline was started"
    field(
        area="champion",
        line="17",
        trouble="the folder with the runs was moved, and the champion's files with it",
        doctor=doctor,
        run="nas run: exit 2 before any training: the champion (version 1) has no files any more "
        "in FOLDER; restore it, or let the new model replace it with "
        "--set registry.unusable_champion=replace",
        seconds=round(refused.seconds, 1),
    )
    done = nas(moved, "run", "--out=third", registry__unusable_champion="replace")
    assert done.status == 0, done.err
    assert champion(moved) == "2"


def test_files_that_expired(trained: Path, field: Callable[..., None]) -> None:
    shutil.rmtree(trained / "runs" / "mlartifacts" / "models")
    doctor = examined(trained, "--kind=retrain")
    assert doctor.startswith("warning champion: net: the champion (version 1) has no files")
    done = nas(trained, "retrain", "--out=second")
    assert done.status == 0, done.err
    assert champion(trained) == "2"
    result = json.loads((trained / "second" / "result.json").read_text())
    assert "has no files any more" in result["promotion"]["unusable_champion"]
    field(
        area="champion",
        line="18",
        trouble="the champion's files have expired; a scheduled retraining",
        doctor=doctor,
        run="exit 0: the new model becomes champion, with the reason in result.json, tags and log; "
        "with registry.unusable_champion=stop: exit 2 before any training",
    )
    stopped = nas(trained, "rollback")
    assert stopped.status == 2, stopped.err
    assert "earlier champions (version 1) or their files are gone" in stopped.err


def test_a_run_that_mlflow_gc_removed(trained: Path, field: Callable[..., None]) -> None:
    client = registry(trained)
    run_id = client.get_model_version("net", "1").run_id
    client.delete_run(run_id)
    uri = f"sqlite:///{trained}/runs/mlflow.db"
    subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--run-ids", run_id],
        check=True,
        capture_output=True,
    )
    doctor = examined(trained, "--kind=retrain")
    done = nas(trained, "retrain", "--out=second")
    assert done.status == 0, done.err
    review = json.loads((trained / "second" / "review.json").read_text())
    assert review["plan"] == "search"
    assert "has no search" in review["reason"]
    field(
        area="champion",
        line="21",
        trouble="the champion's run was removed by mlflow gc, its model and version stay",
        doctor=doctor,
        run="nas retrain: exit 0: searches a new architecture, compares with the champion as usual",
    )


def test_rollback_to_versions_that_are_gone(trained: Path, field: Callable[..., None]) -> None:
    client = registry(trained)
    source = client.get_model_version("net", "1")
    for _ in range(2):
        client.create_model_version("net", source.source, run_id=source.run_id)
    client.set_registered_model_tag("net", "nas.champions", "1,2,3")
    client.set_registered_model_alias("net", "champion", "3")
    client.delete_model_version("net", "2")
    done = nas(trained, "rollback")
    assert done.status == 0, done.err
    assert "version 2 is passed over: it is not in the registry any more" in done.out
    assert champion(trained) == "1"
    field(
        area="champion",
        line="68",
        trouble="nas rollback, where the champion before was deleted from the registry",
        run="exit 0: version 2 is passed over: it is not in the registry any more; champion of "
        "net: version 1 (was 3)",
    )
    for version, advice in (("", "leave --to out"), ("01", "--to 1"), ("v1", "--to 1")):
        refused = nas(trained, "rollback", f"--to={version}")
        assert refused.status == 2, refused.err
        assert advice in refused.err
    field(
        area="champion",
        line="70",
        trouble='nas rollback --to "", 01 or v1',
        run='exit 2: "" is empty; give the number of a version, or leave --to out; 01: write '
        "--to 1",
    )
