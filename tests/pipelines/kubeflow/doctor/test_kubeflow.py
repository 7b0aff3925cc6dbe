"""Kubeflow's version, what its controller adds, and the account of the pods."""

from typing import Any

import pytest
from kube_api import USER, KubeApi
from kube_cluster import ACCOUNT, DEFAULTS, HEALTH, NAMESPACE, findings, only, target, wrong


@pytest.mark.parametrize("tag", ["2.16.1", "2.5.0", "2.16.1-rc.1"])
def test_an_old_kubeflow_is_a_problem(api: KubeApi, tag: str) -> None:
    api.raw[HEALTH]["tag_name"] = tag
    found = only()
    assert (found.name, found.state) == ("kubeflow", "problem")
    assert "upgrade it to 2.17.0 or later" in found.advice


@pytest.mark.parametrize("tag", ["2.17.0", "2.18.0-rc.1", "3.0.0"])
def test_a_recent_kubeflow_is_right(api: KubeApi, tag: str) -> None:
    api.raw[HEALTH]["tag_name"] = tag
    assert wrong() == []


def image_of_server(api: KubeApi, image: str) -> None:
    deployment: Any = api.find("Deployment", "ml-pipeline", "kubeflow")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image


@pytest.mark.parametrize(
    ("image", "state"),
    [
        ("ghcr.io:443/kubeflow/kfp-api-server:2.16.1", "problem"),
        ("ghcr.io/kubeflow/kfp-api-server:2.17.0@sha256:00", "ok"),
        ("ghcr.io/kubeflow/kfp-api-server@sha256:00", "warning"),
        ("localhost:5000/kfp-api-server:master", "warning"),
    ],
)
def test_the_version_is_that_of_the_image_where_the_server_cannot_be_asked(
    api: KubeApi, image: str, state: str
) -> None:
    api.raw[HEALTH]["tag_name"] = "unknown"  # as a server says that was built from source
    image_of_server(api, image)
    (found,) = (one for one in findings() if one.name == "kubeflow")
    assert found.state == state
    assert "get deployment ml-pipeline" in found.command


def test_no_kubeflow(api: KubeApi) -> None:
    del api.raw[HEALTH]
    api.drop("Deployment", "ml-pipeline", "kubeflow")
    found = next(one for one in wrong() if one.name == "kubeflow")
    assert found.state == "problem"
    assert "--kubeflow-namespace" in found.advice


@pytest.mark.parametrize(
    ("data", "state", "told"),
    [
        ({"workflowDefaults": DEFAULTS.replace("OnError", "Always")}, "problem", "Always"),
        ({"workflowDefaults": DEFAULTS.replace("OnError", "OnFailure")}, "problem", "OnFailure"),
        ({"workflowDefaults": DEFAULTS.replace("\n      retryPolicy: OnError", "")}, "problem", ""),
        ({"config": "workflowDefaults: {spec: {templateDefaults: {retryStrategy: {retryPolicy: "
          "Always}}}}"}, "problem", "Always"),
        ({}, "warning", "no retryStrategy"),
        ({"workflowDefaults": "a: [b"}, "problem", "is not YAML"),
        ({"workflowDefaults": DEFAULTS.replace("OnError", "OnTransientError")}, "ok", ""),
    ],
)  # fmt: skip
def test_retries_of_the_workflow_controller(
    api: KubeApi, data: dict[str, str], state: str, told: str
) -> None:
    api.put("ConfigMap", "workflow-controller-configmap", "kubeflow", data=data)
    (found,) = (one for one in findings() if one.name == "workflow-defaults")
    assert found.state == state
    assert told in found.seen


# --- account and rights ---------------------------------------------------------------------


def test_no_service_account(api: KubeApi) -> None:
    api.drop("ServiceAccount", ACCOUNT, NAMESPACE)
    found = only()
    assert (found.name, found.state) == ("service-account", "problem")
    assert "--service-account nas-steps" in found.advice


@pytest.mark.parametrize(
    ("health", "there", "wanted"),
    [
        ({"multi_user": True}, (), "default-editor"),
        ({"multi_user": False}, (), "pipeline-runner"),
        (None, ("default-editor",), "default-editor"),
        (None, ("pipeline-runner",), "pipeline-runner"),
    ],
)
def test_the_account_is_the_one_that_kubeflow_takes(
    api: KubeApi, health: dict[str, bool] | None, there: tuple[str, ...], wanted: str
) -> None:
    del api.raw[HEALTH]
    if health is not None:
        api.raw[HEALTH] = {"tag_name": "2.17.0", **health}
    for name in there:
        api.put("ServiceAccount", name, NAMESPACE)
    found = next(one for one in findings(target(account=None)) if one.name == "service-account")
    assert wanted in found.seen
    assert found.state == ("ok" if there else "problem")


@pytest.mark.parametrize("lacking", ["create", "patch"])
def test_an_account_that_cannot_report_results(api: KubeApi, lacking: str) -> None:
    api.granted[f"{NAMESPACE}/{ACCOUNT}"].discard((lacking, "workflowtaskresults"))
    found = only()
    assert (found.name, found.state) == ("rights", "problem")
    assert found.command == (
        f"kubectl -n nas auth can-i {lacking} workflowtaskresults.argoproj.io "
        "--as=system:serviceaccount:nas:nas-steps"
    )
    role = f"nas-steps-{lacking}-workflowtaskresults"
    assert found.advice.endswith(
        f"or grant it: kubectl -n nas create role {role} --verb={lacking} "
        "--resource=workflowtaskresults.argoproj.io && "
        f"kubectl -n nas create rolebinding {role} --role={role} --serviceaccount=nas:nas-steps"
    )


def test_rights_that_may_not_be_asked_for_are_a_warning(api: KubeApi) -> None:
    api.denied = {("create", "localsubjectaccessreviews")}
    found = only()
    assert (found.name, found.state) == ("rights", "warning")
    assert f'User "{USER}" cannot create resource' in found.seen
    assert "auth can-i create workflowtaskresults" in found.command
