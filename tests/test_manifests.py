"""The manifests as they would be applied: built offline, checked, with planted faults."""

import base64
import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import manifest_rules as rules
import psycopg
import pytest
import yaml
from manifest_objects import Object, containers
from postgres import PASSWORD, USER, Postgres, free_port, programs

from components.config import parse
from components.image import IMAGE
from pipelines import service_checks

ROOT = Path(__file__).parent.parent
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("local", "gpu", "prod")
VARIANTS = (*OVERLAYS, "gpu+volume", "prod+volume")
"""`+volume`: with the component that `cluster.state: pvc:nas-state` needs; local has it."""
DOCS = (ROOT / "docs" / "operators.md").read_text()


@cache
def _built(overlay: str) -> str:
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    assert kubectl is not None
    name, _, more = overlay.partition("+")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(MANIFESTS, folder, dirs_exist_ok=True)
        if more:
            # As the component's own comment says.
            with (Path(folder) / "overlays" / name / "kustomization.yaml").open("a") as file:
                file.write("components: [../../state-volume]\n")
        command = [kubectl, "kustomize", str(Path(folder) / "overlays" / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), "no errors, no warnings of old fields"
    return done.stdout


def build(overlay: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(_built(overlay)) if one]


def find(objects: list[Object], kind: str, name: str) -> Any:
    [one] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return one


def container(objects: list[Object], name: str) -> Any:
    [one] = [one for _, one, _ in containers(objects) if one["name"] == name]
    return one


def test_every_overlay_is_looked_at() -> None:
    assert {path.name for path in (MANIFESTS / "overlays").iterdir()} == set(OVERLAYS)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("overlay", VARIANTS)
def test_an_overlay_keeps_every_rule(overlay: str, rule: Any) -> None:
    assert list(rule(build(overlay))) == []


# --- each rule sees what it is there for ----------------------------------------------------


def _mistyped_field(objects: list[Object]) -> None:
    container(objects, "mlflow")["livenesProbe"] = container(objects, "mlflow")["livenessProbe"]


def _unknown_kind(objects: list[Object]) -> None:
    find(objects, "Deployment", "nas-mlflow")["apiVersion"] = "apps/v1beta9"


def _secret(objects: list[Object]) -> None:
    objects.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "nas-s3"}})


def _no_label(objects: list[Object]) -> None:
    del find(objects, "Service", "nas-mlflow")["metadata"]["labels"]["app.kubernetes.io/name"]


def _root(objects: list[Object]) -> None:
    spec = find(objects, "Deployment", "nas-mlflow")["spec"]["template"]["spec"]
    spec["securityContext"]["runAsUser"] = 0


def _capabilities(objects: list[Object]) -> None:
    container(objects, "postgres")["securityContext"]["capabilities"]["drop"] = ["NET_RAW"]


def _baseline(objects: list[Object]) -> None:
    namespace = find(objects, "Namespace", "nas")
    namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"


def _host_path(objects: list[Object]) -> None:
    spec = find(objects, "Deployment", "nas-mlflow")["spec"]["template"]["spec"]
    spec["volumes"][0] = {"name": "tmp", "hostPath": {"path": "/tmp"}}


def _no_limit(objects: list[Object]) -> None:
    del container(objects, "mlflow")["resources"]["limits"]["memory"]


def _moving_tag(objects: list[Object]) -> None:
    container(objects, "postgres")["image"] = "postgres:17"


def _token(objects: list[Object]) -> None:
    spec = find(objects, "StatefulSet", "nas-postgres")["spec"]["template"]["spec"]
    del spec["automountServiceAccountToken"]


def _all_secrets(objects: list[Object]) -> None:
    for rule in find(objects, "Role", "nas-steps")["rules"]:
        rule.pop("resourceNames", None)


def _stale_selector(objects: list[Object]) -> None:
    policy = find(objects, "NetworkPolicy", "nas-postgres")
    policy["spec"]["podSelector"]["matchLabels"] = {"app.kubernetes.io/name": "postgres"}


def _stale_peer(objects: list[Object]) -> None:
    policy = find(objects, "NetworkPolicy", "nas-mlflow")
    policy["spec"]["ingress"][0]["from"][0] = {"podSelector": {"matchLabels": {"app": "steps"}}}


def _metadata_by_a_label_that_it_has_not(objects: list[Object]) -> None:
    for rule in find(objects, "NetworkPolicy", "nas-steps")["spec"]["egress"]:
        for peer in rule["to"]:
            for term in peer.get("podSelector", {}).get("matchExpressions", []):
                term["values"].append("metadata-grpc-server")


def _proxy(objects: list[Object]) -> None:
    template = find(objects, "StatefulSet", "nas-postgres")["spec"]["template"]
    del template["metadata"]["labels"]["sidecar.istio.io/inject"]


def _open_border(objects: list[Object]) -> None:
    del find(objects, "NetworkPolicy", "nas-mlflow")["spec"]["egress"][0]["to"]


def _no_border(objects: list[Object]) -> None:
    objects.remove(find(objects, "NetworkPolicy", "nas-deny-all"))


def _other_port(objects: list[Object]) -> None:
    container(objects, "mlflow")["ports"][0]["containerPort"] = 8080


def _no_such_map(objects: list[Object]) -> None:
    find(objects, "ConfigMap", "nas-settings")["metadata"]["name"] = "settings"


def _job(objects: list[Object]) -> Any:
    return find(objects, "Job", "nas-state-permissions")["spec"]


def _restarting_job(objects: list[Object]) -> None:
    _job(objects)["template"]["spec"]["restartPolicy"] = "OnFailure"


def _lasting_job(objects: list[Object]) -> None:
    del _job(objects)["ttlSecondsAfterFinished"]


def _volume_of_root(objects: list[Object]) -> None:
    del _job(objects)["template"]["spec"]["securityContext"]["fsGroup"]


def _slow_volume(objects: list[Object]) -> None:
    spec = find(objects, "StatefulSet", "nas-postgres")["spec"]["template"]["spec"]
    del spec["securityContext"]["fsGroupChangePolicy"]


def _no_such_claim(objects: list[Object]) -> None:
    find(objects, "PersistentVolumeClaim", "nas-state")["metadata"]["name"] = "state"


@pytest.mark.parametrize(
    ("rule", "plant"),
    [
        (rules.schemas, _mistyped_field),
        (rules.schemas, _unknown_kind),
        (rules.kinds, _secret),
        (rules.labels, _no_label),
        (rules.restricted, _root),
        (rules.restricted, _capabilities),
        (rules.restricted, _baseline),
        (rules.restricted, _host_path),
        (rules.resources, _no_limit),
        (rules.jobs, _restarting_job),
        (rules.jobs, _lasting_job),
        (rules.volumes, _volume_of_root),
        (rules.volumes, _slow_volume),
        (rules.volumes, _no_such_claim),
        (rules.images, _moving_tag),
        (rules.digests, _moving_tag),
        (rules.tokens, _token),
        (rules.tokens, _all_secrets),
        (rules.selectors, _stale_selector),
        (rules.selectors, _stale_peer),
        (rules.selectors, _metadata_by_a_label_that_it_has_not),
        (rules.sidecars, _proxy),
        (rules.borders, _open_border),
        (rules.borders, _no_border),
        (rules.ports, _other_port),
        (rules.own_maps, _no_such_map),
    ],
)
def test_a_rule_sees_a_planted_fault(
    rule: Callable[[list[Object]], Iterator[str]], plant: Callable[[list[Object]], None]
) -> None:
    objects = copy.deepcopy(build("prod+volume"))
    assert list(rule(objects)) == []
    plant(objects)
    assert list(rule(objects)) != []


# --- what the rules cannot know -------------------------------------------------------------


def documented() -> set[tuple[str, str]]:
    """NAME and KEY of the table of secrets and settings in the operators' page."""
    rows = re.findall(r"^\| `(nas-[\w-]+)` \| (.*?) \|", DOCS, re.MULTILINE)
    return {(name, key) for name, keys in rows for key in re.findall(r"`([^`]+)`", keys)}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_secret_that_is_read_is_documented(overlay: str) -> None:
    found = {(name, key) for _, name, key in rules.references(build(overlay))}
    assert found
    assert found <= documented()


def test_the_example_configuration_is_right_and_reads_what_is_documented() -> None:
    config = parse(yaml.safe_load((MANIFESTS / "overlays/gpu/cluster.yaml").read_text()))
    given = {**config.cluster.secrets, **config.cluster.config_maps}
    assert {tuple(reference.split("/")) for reference in given.values()} <= documented()
    objects = build("gpu")
    assert (config.cluster.state or "").startswith("s3://"), "it needs least from a cluster"
    settings = find(objects, "ConfigMap", "nas-settings")["data"]
    assert config.tracking.uri == settings["MLFLOW_TRACKING_URI"]


@pytest.mark.parametrize("overlay", ["local", "gpu"])
def test_the_server_runs_from_the_image_of_the_steps(overlay: str) -> None:
    assert container(build(overlay), "mlflow")["image"] == IMAGE


@pytest.mark.parametrize("overlay", ["local", "gpu+volume", "prod+volume"])
def test_the_server_and_the_job_have_one_image(overlay: str) -> None:
    objects = build(overlay)
    assert container(objects, "permissions")["image"] == container(objects, "mlflow")["image"]


def test_production_takes_digests_alone_and_outlives_a_node() -> None:
    objects = build("prod")
    assert list(rules.digests(objects)) == []
    assert list(rules.digests(build("prod+volume"))) == []
    assert list(rules.digests(build("gpu"))) != []
    budget = find(objects, "PodDisruptionBudget", "nas-mlflow")["spec"]
    assert find(objects, "Deployment", "nas-mlflow")["spec"]["replicas"] > budget["minAvailable"]


@pytest.mark.parametrize(("overlay", "gpus"), [("local", "0"), ("gpu", "8"), ("prod", "64")])
def test_the_quota_of_gpus(overlay: str, gpus: str) -> None:
    quota = find(build(overlay), "ResourceQuota", "nas")["spec"]["hard"]
    assert quota["requests.nvidia.com/gpu"] == gpus


# --- the database and the server, started as the manifests say ------------------------------

_STUDY_PASSWORD = 'it\'s a "study" \\ %40 $HOME'
_MLFLOW_PASSWORD = "mlflow's: p@ss"


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> Postgres:
    """A server on which the script of the manifests has run, as the image runs it: by psql."""
    folder = programs()
    assert folder is not None
    environment = {
        **os.environ,
        "PGPASSWORD": PASSWORD,
        "STUDY_PASSWORD": _STUDY_PASSWORD,
        "MLFLOW_PASSWORD": _MLFLOW_PASSWORD,
    }
    command = [str(folder / "psql"), "--host=127.0.0.1", f"--port={postgres.port}"]
    command += [f"--username={USER}", "--dbname=postgres", "--no-psqlrc"]
    command += [f"--file={MANIFESTS / 'base/init.sql'}"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    return postgres


def _connect(server: Postgres, user: str, password: str, database: str) -> Any:
    return psycopg.connect(
        host="127.0.0.1", port=server.port, user=user, password=password, dbname=database
    )


def test_each_account_reaches_its_own_database_alone(databases: Postgres) -> None:
    accounts = {"studies": _STUDY_PASSWORD, "mlflow": _MLFLOW_PASSWORD}
    for user, password in accounts.items():
        with _connect(databases, user, password, user) as connection:
            connection.execute("CREATE TABLE probe (id integer)")
            connection.rollback()
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        _connect(databases, "studies", _STUDY_PASSWORD, "mlflow")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        _connect(databases, "mlflow", _MLFLOW_PASSWORD, "studies")


def _ask(port: int, path: str, host: str, account: str = "") -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    if account:
        pair = base64.b64encode(account.encode()).decode()
        request.add_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def mlflow_server(
    databases: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path]]:
    """The container's command and environment, with other addresses; gives its port and home."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    one = container(build("local"), "mlflow")

    def here(text: str) -> str:
        text = text.replace("nas-postgres:5432", f"127.0.0.1:{databases.port}")
        text = text.replace("=0.0.0.0", "=127.0.0.1").replace("--port=5000", f"--port={port}")
        return text.replace("localhost:5000", f"localhost:{port}")

    auth = folder / "basic_auth.ini"
    auth.write_text(here((MANIFESTS / "base/basic_auth.ini").read_text()))
    secrets = {
        "nas-postgres": {"mlflow-password": _MLFLOW_PASSWORD},
        "nas-mlflow-server": {
            "admin-username": "admin",
            "admin-password": "a long password",
            "flask-secret-key": "any",
        },
    }
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    for variable in one["env"]:
        source = variable.get("valueFrom", {}).get("secretKeyRef", {})
        value = secrets.get(source.get("name"), {}).get(source.get("key"), "unused")
        environment[variable["name"]] = variable.get("value", value)
    home = folder / "home"
    home.mkdir()
    environment |= {"HOME": str(home), "MLFLOW_AUTH_CONFIG_PATH": str(auth)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*one["command"], *map(here, one["args"])],
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(port, process, folder / "log")
        yield port, home
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            # As the kubelet asks: by the address of the pod, which is no allowed name.
            assert _ask(port, "/health", "10.1.2.3:5000") == 200
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"no answer: {log.read_text()}")


@pytest.mark.slow
def test_the_mlflow_server_as_deployed(mlflow_server: tuple[int, Path]) -> None:
    port, home = mlflow_server
    settings = find(build("local"), "ConfigMap", "nas-settings")["data"]
    host = settings["MLFLOW_TRACKING_URI"].removeprefix("http://")
    experiments = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert _ask(port, experiments, host, "admin:a long password") == 200
    assert _ask(port, experiments, "nas-mlflow.nas.svc:5000", "admin:a long password") == 200
    assert _ask(port, experiments, host, "admin:wrong") == 401
    assert _ask(port, experiments, host) == 401
    assert _ask(port, experiments, "elsewhere:5000", "admin:a long password") == 403
    assert [path for path in home.rglob("*.db")] == [], "all it keeps lies in PostgreSQL"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "account", "seen", "advice"),
    [
        ("localhost", "admin:a long password", None, ""),
        ("localhost", "admin:wrong", "401", "MLFLOW_TRACKING_PASSWORD"),
        ("localhost", "", "401", "MLFLOW_TRACKING_USERNAME"),
        ("127.0.0.1", "admin:a long password", "403", "--allowed-hosts"),
    ],
)
def test_doctor_sees_what_the_health_of_the_server_hides(
    mlflow_server: tuple[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    account: str,
    seen: str | None,
    advice: str,
) -> None:
    user, _, password = account.partition(":")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    uri = f"http://{host}:{mlflow_server[0]}"
    finding = service_checks.check_tracking(parse({"tracking": {"uri": uri}}))
    assert finding.state == ("problem" if seen else "ok")
    assert finding.seen == uri
    assert (f"answers {seen}" if seen else "") in finding.advice
    assert advice in finding.advice
