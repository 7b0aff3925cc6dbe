"""`nas clean-state`: what it removes, what it says, and its exit status."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from s3 import ACCESS_KEY, REGION, SECRET_KEY, S3Server

from components.run_state.marker import mark
from pipelines.cli import main

DAY_S = 86_400


@pytest.fixture
def nas() -> Callable[..., Result]:
    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(main, ["clean-state", *arguments])
        assert "Traceback" not in result.output
        assert SECRET_KEY not in result.output
        return result

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A volume with a state of five days, one of today, and something else."""
    for run_id, age_days in (("r1", 5), ("r2", 0)):
        run = tmp_path / "volume" / run_id
        mark(run, run_id)
        (run / "search.ckpt").write_bytes(bytes(2_000_000))
        for path in run.iterdir():
            os.utime(path, (time.time() - age_days * DAY_S,) * 2)
    (tmp_path / "volume" / "lost+found").mkdir()
    return tmp_path / "volume"


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> S3Server:
    s3_server.bucket("state")
    return s3_server


@pytest.fixture
def account(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": server.url,
    }.items():
        monkeypatch.setenv(name, value)


def test_a_folder(nas: Callable[..., Result], folder: Path) -> None:
    dry = nas("--older-than", "3", "--state", str(folder), "--dry-run")
    assert dry.exit_code == 0
    assert "would remove r1: 2 files, 2.0 MB, 5.0 days old" in dry.output
    assert (folder / "r1").exists()
    done = nas("--older-than", "3", "--state", str(folder))
    assert done.exit_code == 0
    assert "removed r1: 2 files, 2.0 MB, 5.0 days old" in done.output
    assert "skipped lost+found: has no nas-state.json" in done.output
    assert f"{folder}: removed 1 states, 2,000," in done.output
    assert "kept 1 newer ones" in done.output
    assert sorted(path.name for path in folder.iterdir()) == ["lost+found", "r2"]


def test_json(nas: Callable[..., Result], folder: Path) -> None:
    result = nas("--older-than", "3", "--state", str(folder), "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert found["bytes"] == found["removed"][0]["num_bytes"] > 2_000_000
    assert [state["run_id"] for state in found["removed"]] == ["r1"]
    assert found["num_kept"] == 1
    assert [left["name"] for left in found["skipped"]] == ["lost+found"]
    assert found["failed"] == []
    assert found["dry_run"] is False


def test_the_place_of_the_configuration(
    nas: Callable[..., Result], account: None, server: S3Server, tmp_path: Path
) -> None:
    from components.run_state.object_store import ObjectState

    state = ObjectState("s3://state/runs", "r1", "search", tmp_path / "search")
    state.pull()
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "a").write_text("x")
    state.push()
    config = tmp_path / "my.yaml"
    config.write_text("cluster: {state: 's3://state/runs'}\n")
    kept = nas(str(config), "--older-than", "1")
    assert (kept.exit_code, "kept 1 newer ones" in kept.output) == (0, True)
    done = nas("--set", "cluster.state=s3://state/runs/", "--older-than", "0")
    assert done.exit_code == 0
    assert "s3://state/runs: removed 1 states" in done.output
    assert "Contents" not in server.client().list_objects_v2(Bucket="state", Prefix="runs/")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than", "-1"], "--older-than = -1.0: give a number of days, 0 or more"),
        (["--older-than", "nan"], "--older-than = nan: give a number of days"),
        (["--older-than", "inf"], "--older-than = inf: give a number of days"),
        (["--older-than", "x"], "--older-than = x: must be a number"),
        ([], "--older-than: is missing; write"),
        (["--older-than", "1"], "cluster.state: is not set; give the place with --state"),
        (["--older-than", "1", "--state", "/no/where"], "there is no such folder"),
        (["--older-than", "1", "--state", "s3://B/a"], "--state = s3://B/a: is no S3 URI"),
        (["--older-than", "1", "--state", "s3://u:p@bucket/a"], "holds a user name"),
        (["--older-than", "1", "--set", "cluster.state=pvc:nas-state"], "--state /var/lib/nas`"),
        (["--older-than", "1", "--state", "pvc:nas-state"], "in a pod of the image that mounts"),
        (["--older-than", "1", "--set", "cluster.state=gs://a"], "gs:// is not supported"),
    ],
)
def test_bad_input(nas: Callable[..., Result], arguments: list[str], message: str) -> None:
    result = nas(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "u:p@" not in result.output


def test_a_bucket_that_is_not_there(nas: Callable[..., Result], account: None) -> None:
    result = nas("--older-than", "1", "--state", "s3://nowhere/a")
    assert result.exit_code == 2
    assert "there is no such bucket" in result.output


def test_what_cannot_be_removed_is_exit_status_1(
    nas: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    result = nas("--older-than", "3", "--state", str(folder))
    assert result.exit_code == 1
    assert "failed r1: cluster.state" in result.output
    assert "removed 0 states" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--state", ""], "--state: is empty"),
        (["--set", "cluster.state=pvc:nas"], "cluster.state = pvc:nas: a claim can be read"),
        (["--state", "pvc:nas"], "--state = pvc:nas: a claim can be read"),
        (["--state", ".", "my.yaml"], "is given next to a configuration"),
        (["--state", ".", "--set", "seed=1"], "is given next to a configuration"),
    ],
)
def test_a_place_that_is_empty_or_named_twice_removes_nothing(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.run_state.marker import mark

    monkeypatch.chdir(tmp_path)
    mark(tmp_path / "run", "run")
    (tmp_path / "my.yaml").write_text("seed: 1\n")
    ended = CliRunner().invoke(main, ["clean-state", "--older-than", "0", *arguments])
    assert ended.exit_code == 2
    assert said in ended.output
    assert (tmp_path / "run").is_dir()
