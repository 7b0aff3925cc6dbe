"""Each thing that keeps a pipeline from running is found, with what mends it and how to see it."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kube_api import KubeApi
from kube_cluster import (
    HEALTH,
    NAMESPACE,
    SETTINGS,
    findings,
    only,
    target,
    wrong,
)

from pipelines.kubeflow.doctor.findings import ClusterFinding

SECRET = "aHVudGVyMg=="  # as all secrets are here
KUBECTL = Path(sys.executable).with_name("kubectl")


def with_cluster(**changes: Any) -> dict[str, Any]:
    return {**SETTINGS, "cluster": {**SETTINGS["cluster"], **changes}}


def test_a_sound_cluster_has_no_findings(api: KubeApi) -> None:
    found = findings()
    assert {one.state for one in found} == {"ok"}
    assert [one.name for one in found if one.name in ("secret", "nodes", "quota")] == [
        "secret",
        "secret",
        "quota",
        "nodes",
    ]
    assert all(json.loads(json.dumps(one.to_dict()))["command"] for one in found)
    reading = {"get", "list"}
    assert {one.verb for one in api.asked if not one.kind.endswith("Review")} == reading


@pytest.mark.skipif(not KUBECTL.exists(), reason="kubectl of the developers' tools is not here")
def test_every_command_is_one_that_kubectl_takes(
    api: KubeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.token = None  # kubectl shows none where nothing is encrypted
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path))
    for command in {one.command for one in findings()}:
        words = shlex.split(command)
        assert words[0] == "kubectl"
        ended = subprocess.run([KUBECTL, *words[1:]], capture_output=True, text=True, timeout=60)
        # Reviews are asked for in a form that the stand-in does not read.
        taken = "UnsupportedMediaType" if "can-i" in words else ""
        assert ended.returncode == 0 or (taken and taken in ended.stderr), (command, ended.stderr)
        assert SECRET not in ended.stdout


# --- secrets and config maps ----------------------------------------------------------------


def test_a_secret_that_is_not_there(api: KubeApi) -> None:
    api.drop("Secret", "nas-mlflow", NAMESPACE)
    found = only()
    assert (found.name, found.state) == ("secret", "problem")
    assert found.advice == (
        "kubectl -n nas create secret generic nas-mlflow --from-literal=password=VALUE "
        "--from-literal=username=VALUE"
    )
    assert found.command == "kubectl -n nas describe secret nas-mlflow"


def test_a_key_that_is_not_there(api: KubeApi) -> None:
    secret: Any = api.find("Secret", "nas-study", NAMESPACE)
    secret["data"] = {"uri": "aHVudGVyMg=="}
    found = only()
    assert found.seen == "secret nas-study has no key url; its pods would wait for it for ever"
    assert "hunter2" not in str(found)


def test_a_secret_without_data(api: KubeApi) -> None:
    secret: Any = api.find("Secret", "nas-study", NAMESPACE)
    del secret["data"]  # the server leaves out what is empty
    assert "has no key url" in only().seen


def test_a_config_map_that_is_not_there_and_one_with_binary_data(api: KubeApi) -> None:
    api.put("ConfigMap", "nas-settings", NAMESPACE, binaryData={"AWS_ENDPOINT_URL": "aGVyZQ=="})
    assert wrong() == []
    api.drop("ConfigMap", "nas-settings", NAMESPACE)
    found = only()
    assert (found.name, found.state) == ("configmap", "problem")
    assert found.advice.startswith("kubectl -n nas create configmap nas-settings")


def test_secrets_that_may_not_be_read_are_warnings_each(api: KubeApi) -> None:
    api.denied = {("get", "secrets")}
    found = {one.command: one for one in wrong()}
    assert {one.state for one in found.values()} == {"warning"}
    assert set(found) == {
        f"kubectl -n nas auth can-i get secrets/{name}"
        for name in ("nas-study", "nas-mlflow", "registry", "mlpipeline-minio-artifact")
    }


@pytest.mark.parametrize(("kind", "state"), [("Opaque", "problem"), (None, "warning")])
def test_a_pull_secret_of_another_kind_or_none(api: KubeApi, kind: str | None, state: str) -> None:
    api.drop("Secret", "registry", NAMESPACE)
    if kind is not None:
        api.put("Secret", "registry", NAMESPACE, type=kind, data={"password": "aHVudGVyMg=="})
    found = only()
    assert (found.name, found.state) == ("pull-secret", state)
    assert "create secret docker-registry registry" in found.advice


# --- the namespace --------------------------------------------------------------------------


def test_a_namespace_that_is_not_there_ends_the_examination(api: KubeApi) -> None:
    found = findings(target(namespace="elsewhere"))
    assert [one.name for one in found] == ["kubernetes", "namespace"]
    assert found[-1].state == "problem"
    assert "--namespace" in found[-1].advice


def labels(api: KubeApi, **more: str) -> None:
    namespace: Any = api.find("Namespace", NAMESPACE)
    namespace["metadata"]["labels"] |= {name.replace("__", "/"): v for name, v in more.items()}


def service(api: KubeApi, kind: str, name: str, **metadata: Any) -> None:
    api.put(kind, name, NAMESPACE, spec={"template": {"metadata": metadata, "spec": {}}})


def test_sidecars_of_istio_keep_steps_from_mlflow_and_postgresql(api: KubeApi) -> None:
    labels(api, **{"istio-injection": "enabled"})
    assert wrong() == [], "they run elsewhere"
    service(api, "Deployment", "nas-mlflow", labels={"app.kubernetes.io/name": "nas-mlflow"})
    service(api, "StatefulSet", "nas-postgres", labels={"sidecar.istio.io/inject": "false"})
    found = only()
    assert (found.name, found.state) == ("istio", "problem")
    assert found.seen.startswith("nas-mlflow get a sidecar")
    assert 'sidecar.istio.io/inject: "false"' in found.advice
    service(api, "Deployment", "nas-mlflow", annotations={"sidecar.istio.io/inject": "false"})
    assert wrong() == []


def test_a_restricted_namespace_wants_a_user(api: KubeApi) -> None:
    as_any = with_cluster(run_as_user=None)
    found = only(target(as_any))
    assert (found.name, found.state) == ("pod-security", "problem")
    assert "cluster.run_as_user=10001" in found.advice
    labels(api, **{"pod-security.kubernetes.io__enforce": "baseline"})
    assert wrong(target(as_any)) == []


def test_a_namespace_that_is_no_profile(api: KubeApi) -> None:
    labels(api, **{"app.kubernetes.io__part-of": "else"})
    found = only()
    assert (found.name, found.state) == ("namespace", "warning")
    assert "make it a profile" in found.advice


def test_without_profiles_pipelines_run_in_kubeflows_namespace(api: KubeApi) -> None:
    api.raw[HEALTH]["multi_user"] = False
    found = only()
    assert found.seen == "without profiles pipelines run in kubeflow, not in nas"


# --- what is not allowed, and servers that are away ------------------------------------------


def test_without_any_right_every_check_is_a_warning_with_the_right_that_it_needs(
    api: KubeApi,
) -> None:
    everything = {one.plural for one in __import__("kube_http").KINDS.values()}
    api.denied = {(verb, plural) for plural in everything for verb in ("get", "list", "create")}
    del api.raw[HEALTH]
    found = wrong()
    assert {one.state for one in found} == {"warning"}
    assert all("auth can-i" in one.command for one in found)
    by_name = {one.name: one.command for one in found}
    assert by_name["nodes"] == "kubectl auth can-i list nodes"
    assert by_name["claim"] == "kubectl -n nas auth can-i get persistentvolumeclaims/nas-state"
    assert by_name["kubeflow"] == "kubectl -n kubeflow auth can-i get deployments.apps/ml-pipeline"


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (500, '{"kind": "Status", "message": "etcdserver: leader changed"}', "leader changed"),
        (503, "no healthy upstream", "no healthy upstream"),
        (200, "<html>log in</html>", "does not answer as a Kubernetes API"),
        (200, "[]", "does not answer as a Kubernetes API"),
        (302, "", "fails (302)"),
        (401, '{"kind": "Status", "message": "Unauthorized"}', "does not know who we are"),
        (
            403,
            '{"message": "version is forbidden: User \\"system:anonymous\\" cannot get"}',
            "does not know who we are",
        ),
    ],
)
def test_an_api_that_does_not_answer_as_it_should(
    api: KubeApi, status: int, body: str, told: str
) -> None:
    api.fault = (status, body)
    (found,) = findings()
    assert (found.name, found.state) == ("kubernetes", "problem")
    assert told in found.seen


def test_an_api_that_is_away(api: KubeApi) -> None:
    api.close()
    (found,) = findings()
    assert "cannot be reached" in found.seen
    assert "--kube-context" in found.advice


def test_an_object_of_an_odd_form_is_no_traceback(api: KubeApi) -> None:
    api.put("LimitRange", "odd", NAMESPACE, spec={"limits": [{"type": "Pod", "max": {"cpu": "x"}}]})
    found = {one.name: one for one in wrong()}
    assert found["limit-range"].state == "warning"
    assert "not checked: ValueError" in found["limit-range"].seen


def test_findings_have_the_form_of_those_of_the_machine() -> None:
    row = ClusterFinding("claim", "ok", "bound", command="kubectl get pvc").to_dict()
    assert list(row) == ["check", "status", "detail", "remedy", "command"]
