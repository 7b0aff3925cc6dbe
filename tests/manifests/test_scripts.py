"""The scripts of an installation, with the real kubectl on a stand-in for the Kubernetes API.

What they run in a container (`kubectl exec`) runs here, as it would there.
"""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import botocore.exceptions
import pytest
import s3
from loopback import answers
from manifest_place import Place
from postgres import free_port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.api.close()


def test_all_secrets_are_made_once_with_passwords_that_nobody_saw(place: Place) -> None:
    done = place.run("secrets.sh", "team-a")
    assert done.returncode == 0, done.stderr
    made = place.secrets()
    assert {name: sorted(keys) for name, keys in made.items()} == {
        "nas-postgres": ["mlflow-password", "postgres-password", "study-password"],
        "nas-study": ["url"],
        "nas-mlflow-server": ["admin-password", "admin-username", "flask-secret-key"],
        "nas-mlflow": ["password", "username"],
        "nas-s3": ["access-key-id", "secret-access-key"],
    }
    password = made["nas-postgres"]["study-password"]
    assert made["nas-study"]["url"] == f"postgresql://studies:{password}@nas-postgres:5432/studies"
    values = [v for k in made.values() for n, v in k.items() if "password" in n or "secret" in n]
    assert len(set(values)) == len(values) == 7
    assert all(len(value) == 48 for value in values)
    assert not any(value in done.stdout + done.stderr for value in values)
    assert place.run("secrets.sh", "team-a").returncode == 0
    assert place.secrets() == made


def test_a_secret_that_is_there_is_left(place: Place) -> None:
    mine = {"access-key-id": "bWluZQ==", "secret-access-key": "bWluZQ=="}
    place.api.put("Secret", "nas-s3", "team-a", data=mine)
    assert place.run("secrets.sh", "team-a").returncode == 0
    assert place.secrets()["nas-s3"] == dict.fromkeys(mine, "mine")


def test_without_rights_nothing_is_called_done(place: Place) -> None:
    place.api.denied.add(("create", "secrets"))
    done = place.run("secrets.sh", "team-a")
    assert done.returncode != 0
    assert "forbidden" in done.stderr
    usage = place.run("secrets.sh")
    assert usage.returncode != 0
    assert "usage: secrets.sh NAMESPACE" in usage.stderr


# --- Kubeflow's SeaweedFS -------------------------------------------------------------------

WEED = """#!/bin/sh
[ "$1" = shell ] || exit 64
while read -r line; do
  echo "$line" >> "$LINES"
  case "$line" in
    s3.configure*) [ -n "$MUTE" ] || echo "$line" ;;  # with the secret, as the real one
    s3.bucket.list) for one in $BUCKETS; do echo "  $one   size:0"; done ;;
  esac
done
"""


@pytest.mark.parametrize(
    ("buckets", "mute", "fault"),
    [
        ("nas-mlflow nas-state", "", ""),
        ("nas-mlflow", "", "bucket nas-state could not be made"),
        ("nas-mlflow nas-state", "yes", "the keys of nas-s3 could not be made known"),
    ],
)
def test_buckets_and_keys_of_the_object_store(
    place: Place, tmp_path: Path, buckets: str, mute: str, fault: str
) -> None:
    place.run("secrets.sh", "team-a")
    place.program(place.inside, "weed", WEED)
    place.environment |= {"BUCKETS": buckets, "MUTE": mute, "LINES": str(tmp_path / "lines")}
    done = place.run("seaweedfs.sh", "team-a")
    assert done.returncode == bool(fault)
    assert done.stderr.strip() == fault
    called = place.calls.read_text().splitlines()
    assert called[0] == "-n kubeflow exec -i deployment/seaweedfs -c seaweedfs"
    secret = place.secrets()["nas-s3"]["secret-access-key"]
    assert secret not in done.stdout + done.stderr + place.calls.read_text()
    first, second, third, *_ = (tmp_path / "lines").read_text().splitlines()
    assert (first, second) == (
        "s3.bucket.create -name nas-mlflow",
        "s3.bucket.create -name nas-state",
    )
    assert third == (
        f"s3.configure -user nas-team-a -access_key nas-team-a -secret_key {secret} "
        "-buckets nas-mlflow,nas-state -actions Read,Write,List,Tagging -apply"
    )


@pytest.fixture
def seaweedfs(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """As Kubeflow starts it: keys are made by its shell. The options of that, and the S3 port."""
    weed = s3.program()
    if weed is None:
        pytest.skip("SeaweedFS is not installed")
    names = ("master", "volume", "filer", "s3")
    ports = {name: free_port() for name in names}
    command = [str(weed), "server", f"-dir={tmp_path}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += ["-filer", "-s3", "-master.volumePreallocate=false", "-volume.max=50"]
    command += ["-master.volumeSizeLimitMB=64"]
    for name, port in ports.items():
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
    addresses = []
    for name in ("master", "filer"):
        [grpc] = [one.rpartition("=")[2] for one in command if one.startswith(f"-{name}.port.grpc")]
        addresses.append(f"-{name}=127.0.0.1:{ports[name]}.{grpc}")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        _wait(ports["s3"], process, tmp_path / "log")
        yield f"{weed} shell {' '.join(addresses)}", ports["s3"]
    finally:
        process.kill()
        process.wait(timeout=30)


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        if answers(f"http://127.0.0.1:{port}/status"):
            return
        time.sleep(0.2)
    pytest.fail(log.read_text())


@pytest.mark.slow
def test_the_keys_open_these_buckets_and_no_other(place: Place, seaweedfs: tuple[str, int]) -> None:
    shell, port = seaweedfs
    place.run("secrets.sh", "team-a")
    place.program(place.inside, "weed", f"#!/bin/sh\nexec {shell}\n")
    commands = "s3.bucket.create -name mlpipeline\n"
    subprocess.run(shell.split(), input=commands, text=True, check=True, capture_output=True)
    for _ in range(2):  # it may be run again
        done = place.run("seaweedfs.sh", "team-a")
        assert done.returncode == 0, done.stderr
    keys = place.secrets()["nas-s3"]
    assert keys["secret-access-key"] not in done.stdout + done.stderr
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=keys["access-key-id"],
        aws_secret_access_key=keys["secret-access-key"],
        region_name="us-east-1",
    )
    for bucket in ("nas-mlflow", "nas-state"):
        client.put_object(Bucket=bucket, Key="runs/one", Body=b"x", IfNoneMatch="*")
        [found] = client.list_objects_v2(Bucket=bucket)["Contents"]
        client.delete_object(Bucket=bucket, Key=found["Key"])
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client.put_object(Bucket="mlpipeline", Key="one", Body=b"x")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket="mlpipeline")


# --- the account of the steps ---------------------------------------------------------------


class Accounts(BaseHTTPRequestHandler):
    """MLflow's answers to what the script asks; the real server: test_servers."""

    asked: list[tuple[str, str, Any]]
    is_known = False

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.command, self.path, body))
        admin = "Basic " + base64.b64encode(b"admin:pass").decode()
        known = self.path.endswith("create") and self.is_known
        status = 401 if self.headers["Authorization"] != admin else 400 if known else 200
        text = json.dumps({"error_code": "RESOURCE_ALREADY_EXISTS" if known else ""}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PATCH = do_POST

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def accounts() -> Iterator[tuple[type[Accounts], str]]:
    handler = type("OneAccounts", (Accounts,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("is_known", [False, True])
def test_the_account_of_the_steps_is_made_or_gets_the_password(
    place: Place, accounts: tuple[type[Accounts], str], is_known: bool
) -> None:
    handler, url = accounts
    handler.is_known = is_known
    place.run("secrets.sh", "team-a")
    place.environment |= {
        "NAS_MLFLOW": url,
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "pass",
    }
    done = place.run("mlflow_account.sh", "team-a")
    assert done.returncode == 0, done.stderr
    account = place.secrets()["nas-mlflow"]
    made, *more = handler.asked
    assert made == ("POST", "/api/2.0/mlflow/users/create", account)
    assert [(method, body) for method, _, body in more] == [("PATCH", account)] * is_known
    assert account["password"] not in done.stdout + done.stderr + place.calls.read_text()
    place.environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = "wrong"
    refused = place.run("mlflow_account.sh", "team-a")
    assert refused.returncode == 1
    assert "MLflow did not take the account: HTTP Error 401" in refused.stderr
    assert "Traceback" not in refused.stderr
