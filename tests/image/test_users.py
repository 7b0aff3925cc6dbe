"""The image as users of several kinds run it: its own, and one that has neither name nor home."""

import json
import os
import re
import uuid
from pathlib import Path

import pytest
from built_image import Image

JOB = Path(__file__).parents[2] / "manifests" / "state-volume"
OWN, ARBITRARY = "10001:10001", "1000650000:0"
USERS = [
    pytest.param(OWN, False, id="own user"),
    pytest.param(OWN, True, id="own user, read-only root"),
    pytest.param(ARBITRARY, False, id="arbitrary user of group 0"),
    pytest.param(ARBITRARY, True, id="arbitrary user of group 0, read-only root"),
]
TINY = {
    "method": "random",
    "data.max_train": 300,
    "search.space.num_stages": 1,
    "search.budget.children": 2,
    "search.child.epochs": 1,
    "train.epochs": 1,
    "latency.runs": 20,
    "latency.warmup_runs": 1,
}
RUN = ("nas", "run", "--json", "--out", "/tmp/out", *(f"--set={k}={v}" for k, v in TINY.items()))
# Complaints of libraries that found a place to write, if not the one that they wanted.
COMPLAINTS = ("Read-only file system", "Permission denied", "not writable", "PermissionError")


@pytest.mark.parametrize(("user", "read_only"), USERS)
def test_doctor_finds_the_image_sound(image: Image, user: str, read_only: bool) -> None:
    done = image.run("nas", "doctor", user=user, read_only=read_only)
    print(f"{user}, {'read-only' if read_only else 'writable'} root\n{done.stdout}")
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}


@pytest.mark.parametrize(("user", "read_only"), USERS)
def test_all_that_a_step_imports_is_there(image: Image, user: str, read_only: bool) -> None:
    code = """
import torch, torchvision, mlflow, kfp, nascore, components, pipelines
import components.supervisor, pipelines.cli, mlflow.pytorch, torch.export
import matplotlib.pyplot, optuna, boto3, psycopg, sklearn.datasets
print("all")
"""
    assert image.python(code, user=user, read_only=read_only) == "all\n"


@pytest.mark.parametrize(("user", "read_only"), USERS)
def test_the_user_has_a_name_and_a_home(image: Image, user: str, read_only: bool) -> None:
    code = """
import getpass, os, pathlib, tempfile
for place in (pathlib.Path.home(), pathlib.Path.cwd(), pathlib.Path(tempfile.gettempdir())):
    (place / "probe").write_text("written")
print(getpass.getuser(), pathlib.Path.home(), os.getuid())
"""
    uid = user.partition(":")[0]
    assert image.python(code, user=user, read_only=read_only) == f"nas /tmp {uid}\n"


def test_a_volume_may_be_mounted_on_the_home_of_group_0(image: Image) -> None:
    code = "open('/home/nas/probe', 'w').write('written')"
    for user in (OWN, ARBITRARY):
        image.python(code, user=user, read_only=False)


@pytest.mark.parametrize(("user", "read_only"), [USERS[1], USERS[3]])
def test_a_whole_run_needs_no_other_place_than_tmp(
    image: Image, user: str, read_only: bool
) -> None:
    """From data to the alias in MLflow, without any network."""
    done = image.run(*RUN, user=user, read_only=read_only, timeout_s=280)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"models:/digits-[0-9a-f]{6}/1", json.loads(done.stdout)["model_uri"])
    assert not [line for line in done.stderr.splitlines() if any(c in line for c in COMPLAINTS)]


def test_even_one_who_may_write_everywhere_writes_below_tmp_alone(image: Image) -> None:
    """The rights of root show what is tried: caches, bytecode, settings in a home folder."""
    name = f"nas-image-{uuid.uuid4().hex[:8]}"
    try:
        done = image.run(*RUN, user="0:0", read_only=False, options=("--name", name), timeout_s=280)
        assert done.returncode == 0, done.stderr
        changes = [line.split(" ", 1)[1] for line in image.ask("diff", name).splitlines()]
    finally:
        image.ask("rm", "--force", name)
    engine = {"/dev", "/etc", "/proc", "/run", "/sys", "/var", "/"}  # mount points
    others = [one for one in changes if one != "/tmp" and not one.startswith("/tmp/")]
    assert "/tmp/out" in changes
    assert [one for one in others if one not in engine and not one.startswith("/run/")] == []


@pytest.mark.parametrize(("owner", "mode", "status"), [((0, 10001), 0o2775, 0), ((0, 0), 0o755, 1)])
def test_the_job_that_prepares_the_state_volume(
    image: Image, tmp_path: Path, owner: tuple[int, int], mode: int, status: int
) -> None:
    """On a volume that was handed over to its group, and on one that ignores fsGroup."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to root")
    (volume := tmp_path / "volume").mkdir()
    os.chown(volume, *owner)
    volume.chmod(mode)
    options = (f"--volume={volume}:/var/lib/nas", f"--volume={JOB}:/etc/nas:ro")
    done = image.run("python3", "/etc/nas/prepare_state.py", "/var/lib/nas", options=options)
    assert done.returncode == status
    print(done.stdout + done.stderr)
    assert ("can write on /var/lib/nas" in done.stdout) == (status == 0)
    assert ("cannot write on /var/lib/nas (0:0, mode 755)" in done.stderr) == (status == 1)


def test_the_server_of_mlflow_runs_as_any_user(image: Image) -> None:
    """As manifests/base/mlflow.yaml starts it, on SQLite, with basic authentication."""
    code = """
import pathlib, subprocess, sys, time, urllib.error, urllib.request
pathlib.Path("auth.ini").write_text(
    "[mlflow]\\ndefault_permission = READ\\ndatabase_uri = sqlite:///auth.db\\n"
)
log = open("log", "w")
server = subprocess.Popen(
    ["mlflow", "server", "--host=127.0.0.1", "--port=5000", "--workers=1", "--app-name=basic-auth",
     "--backend-store-uri=sqlite:///mlflow.db", "--allowed-hosts=localhost,localhost:5000"],
    stdout=log, stderr=log,
)
def get(path):
    with urllib.request.urlopen(f"http://localhost:5000{path}", timeout=10) as answer:
        return answer.status
deadline = time.monotonic() + 90
while True:
    try:
        print(get("/health"))
        break
    except OSError:
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(open("log").read())
        time.sleep(0.5)
try:
    get("/")
except urllib.error.HTTPError as error:
    print(error.code)
server.terminate()
server.wait(20)
"""
    options = (
        "--env=MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini",
        "--env=MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false",
        "--env=MLFLOW_FLASK_SERVER_SECRET_KEY=secret-of-a-test",
        "--env=MLFLOW_AUTH_ADMIN_USERNAME=admin",
        "--env=MLFLOW_AUTH_ADMIN_PASSWORD=password-of-a-test",
    )
    assert image.python(code, user=ARBITRARY, options=options) == "200\n401\n"
