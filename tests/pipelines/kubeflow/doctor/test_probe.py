"""The pod that looks from inside: made like those of the steps, read, and always removed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube_api import KubeApi
from kube_cluster import IMAGE, NAMESPACE, SETTINGS, target

from components.config.schema import Config, parse
from pipelines.doctor import pod_checks
from pipelines.doctor.examine import examine
from pipelines.kubeflow.doctor import probe as probe_module
from pipelines.kubeflow.doctor.findings import ClusterFinding
from pipelines.kubeflow.doctor.probe import probe
from pipelines.kubeflow.doctor.probe_job import job_of

ROWS = [
    {"check": "tracking", "status": "ok", "detail": "http://nas-mlflow:5000", "remedy": ""},
    {"check": "state", "status": "problem", "detail": "cannot be written", "remedy": "fsGroup"},
]
RUNNING = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}
DONE = {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}


def waiting(reason: str, message: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"state": state}]}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "message": message}}
    return {"phase": "Failed", "containerStatuses": [{"state": state}]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "_PAUSE_S", 0.01)


def look(api: KubeApi, *states: dict[str, Any], limit_s: float = 5.0) -> list[ClusterFinding]:
    api.pods = lambda job: list(states)
    found = list(probe(target(), limit_s=limit_s))
    assert api.of("Job") == [], "it is removed, however it ends"
    assert api.of("Pod") == []
    return found


def problem(api: KubeApi, *states: dict[str, Any], limit_s: float = 5.0) -> ClusterFinding:
    (found,) = look(api, *states, limit_s=limit_s)
    assert (found.name, found.state) == ("probe", "problem")
    return found


def test_what_nas_doctor_says_in_the_pod_is_reported(api: KubeApi) -> None:
    api.log = f"a warning of a library\n{json.dumps(ROWS)}\n"
    found = look(api, {"phase": "Pending"}, RUNNING, DONE)
    assert {one.name: one.state for one in found} == {"pod-tracking": "ok", "pod-state": "problem"}
    assert found[1].advice == "fsGroup"
    assert found[0].command.startswith("kubectl -n nas run nas-doctor --rm --attach")


def test_the_pod_is_like_those_of_the_steps(api: KubeApi) -> None:
    job = job_of(target(), "nas-doctor-1", "nas-steps", limit_s=300)
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 300
    assert job["spec"]["ttlSecondsAfterFinished"] > 0, "removed when nobody is there to do it"
    template = job["spec"]["template"]
    assert "pipeline/runid" in template["metadata"]["labels"], "policies select it"
    pod = template["spec"]
    assert pod["serviceAccountName"] == "nas-steps"
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["securityContext"]["runAsUser"] == 10001
    assert container["volumeMounts"] == [{"name": "nas-state", "mountPath": "/var/lib/nas"}]
    environment = {one["name"]: one for one in container["env"]}
    assert environment["NAS_STATE_ROOT"]["value"] == "/var/lib/nas"
    secret = environment["NAS_STUDY_URL"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "nas-study", "key": "url"}
    assert environment[pod_checks.REACH]["value"].split() == [
        "ml-pipeline.kubeflow:8887",
        "metadata-grpc-service.kubeflow:8080",
        "seaweedfs.kubeflow:9000",
        "kubernetes.default.svc:443",
    ]
    api.put("Service", "minio-service", "kubeflow")
    assert "minio-service.kubeflow:9000" in str(job_of(target(), "x", "y", limit_s=1))


def test_the_job_is_one_that_kubernetes_takes_and_its_command_one_that_nas_takes(
    api: KubeApi, tmp_path: Path
) -> None:
    """By the schemas of Kubernetes, and by running the command of the pod here."""
    import kubernetes_validate

    settings = {
        **SETTINGS,
        "method": "auto-meta",
        "data": {"source": "omniglot"},
        "tracking": {"uri": "http://127.0.0.1:9"},
        "cluster": {"state": "pvc:nas-state"},
        "search": {"space": {"name": "fewshot-cell"}},
    }
    job = job_of(target(settings), "nas-doctor-1", "nas-steps", limit_s=300)
    kubernetes_validate.validate(job, "1.32", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    given |= {"NAS_STATE_ROOT": str(tmp_path), pod_checks.REACH: "127.0.0.1:9"}
    program, *words = [*container["command"], *container["args"]]
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *words],
        env={**os.environ, **given},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    api.log = done.stderr + done.stdout
    found = {one.name: one for one in look(api, ended(done.returncode))}
    assert found["pod-state"].state == "ok"
    assert found["pod-reach"].state == "problem"
    assert found["pod-tracking"].state == "warning"
    assert found["pod-data"].seen == "omniglot"


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("ImagePullBackOff", 'Back-off pulling image "repo/nas:1.2"', "check --image"),
        ("InvalidImageName", "couldn't parse image name", "correct --image"),
        ("CreateContainerConfigError", 'secret "nas-study" not found', "make the secret"),
    ],
)
def test_a_pod_that_cannot_start(api: KubeApi, reason: str, message: str, told: str) -> None:
    found = problem(api, waiting("ContainerCreating", ""), waiting(reason, message))
    assert reason in found.seen
    assert message in found.seen
    assert told in found.advice
    assert found.command == "kubectl -n nas get events --sort-by=.lastTimestamp"


def test_a_pull_that_failed_once_is_waited_for(api: KubeApi) -> None:
    api.log = json.dumps(ROWS)
    assert len(look(api, waiting("ErrImagePull", "timeout"), RUNNING, DONE)) == 2


def test_a_pod_that_finds_no_node(api: KubeApi) -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient memory.",
    }
    found = problem(api, {"phase": "Pending", "conditions": [condition]}, limit_s=0.1)
    assert "0/2 nodes are available: 2 Insufficient memory." in found.seen
    assert "--probe-timeout" in found.advice


def test_a_pod_that_is_refused(api: KubeApi) -> None:
    message = 'pods "nas-doctor-1" is forbidden: violates PodSecurity "restricted:latest"'
    api.put("Event", "e1", NAMESPACE, reason="FailedCreate", message=message)
    assert message in problem(api).seen
    api.denied = {("list", "events")}
    assert "there is no pod" in problem(api, limit_s=0.1).seen


@pytest.mark.parametrize(
    ("state", "log", "told", "advice"),
    [
        (ended(1), "exec /opt/nas/bin/nas: exec format error\n", "exec format", "architecture"),
        (ended(128, "StartError", "exec format error"), "", "StartError", "architecture"),
        (ended(2), "The input is wrong; nothing was started:\n  data.new: is no setting\n",
         "data.new: is no setting", "an image of this version"),
        (ended(137, "OOMKilled"), "", "OOMKilled", ""),
        (DONE, '[1, 2]\n[{"name": "x"}]\n"text"\n', "ended with 0", ""),
    ],
)  # fmt: skip
def test_a_pod_that_ends_without_findings(
    api: KubeApi, state: dict[str, Any], log: str, told: str, advice: str
) -> None:
    api.log = log
    found = problem(api, state)
    assert told in found.seen
    assert advice in found.advice


def test_a_log_that_is_gone(api: KubeApi) -> None:
    assert "its log cannot be read" in problem(api, DONE).seen


@pytest.mark.parametrize(
    ("right", "command"),
    [
        (("create", "jobs"), "kubectl -n nas auth can-i create jobs.batch"),
        (("list", "pods"), "kubectl -n nas auth can-i list pods"),
    ],
)
def test_without_a_right_it_is_a_warning(
    api: KubeApi, right: tuple[str, str], command: str
) -> None:
    api.denied = {right}
    (found,) = look(api, DONE)
    assert (found.state, found.command) == ("warning", command)


def test_a_log_that_may_not_be_read(api: KubeApi) -> None:
    api.denied = {("get", "pods/log")}
    (found,) = look(api, DONE)
    assert found.state == "warning"
    assert "--subresource=log" in found.command


def test_a_job_that_cannot_be_removed_is_told(api: KubeApi) -> None:
    api.denied = {("delete", "jobs")}
    api.log = json.dumps(ROWS)
    api.pods = lambda job: [DONE]
    *_, left = probe(target(), limit_s=5)
    assert left.state == "warning"
    assert left.command == f"kubectl -n nas delete job {api.of('Job')[0]['metadata']['name']}"


def test_an_interrupted_probe_is_removed(api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    api.pods = lambda job: [RUNNING]
    monkeypatch.setattr(probe_module.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(probe(target(), limit_s=5))
    assert api.of("Job") == []


# --- what the pod itself looks at ------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def config() -> Config:
    return parse({})


def test_servers_that_take_connections_or_do_not(
    config: Config, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pod_checks.REACH, server)
    assert pod_checks.check_reach(config).state == "ok"
    monkeypatch.setenv(pod_checks.REACH, f"{server} 127.0.0.1:9 nowhere.invalid:80")
    found = pod_checks.check_reach(config)
    assert found.state == "problem"
    assert "127.0.0.1:9 (Connection refused)" in found.seen
    assert "nowhere.invalid:80" in found.seen
    assert server not in found.seen
    assert "pipeline/runid" in found.advice


def test_a_state_that_can_be_written_or_not(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STATE_ROOT", str(tmp_path))
    assert pod_checks.check_state(config).state == "ok"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("NAS_STATE_ROOT", "/proc/nowhere")
    found = pod_checks.check_state(config)
    assert found.state == "problem"
    assert "cannot be written and read by user" in found.seen


def test_they_are_part_of_nas_doctor_in_a_pod_alone(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.doctor import examine as doctor

    monkeypatch.setattr(doctor, "CHECKS", ())
    for name in pod_checks.CHECKS:
        monkeypatch.delenv(name, raising=False)
    assert list(examine(config)) == []
    monkeypatch.setenv("NAS_STATE_ROOT", str(tmp_path))
    assert [one.name for one in examine(config)] == ["state"]
