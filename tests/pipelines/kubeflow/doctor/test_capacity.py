"""Quotas and limit ranges against the pods of the steps, as the API server would judge them."""

from decimal import Decimal
from typing import Any

import pytest
from kube_api import KubeApi
from kube_cluster import LIMITS, NAMESPACE, QUOTA, SETTINGS, demand, only, target, wrong

from pipelines.kubeflow.doctor.quantities import Container, PodDemand, parse, show

LONELY = {**SETTINGS, "search": {"storage": "env:NAS_STUDY_URL"}}
GPU_STEPS = (
    *("pretrain_controller", "search", "search_worker"),
    *("train_final", "profile_latency", "train_references"),
)


def hard(api: KubeApi, name: str = "nas", **spec: Any) -> None:
    changed = {key.replace("_", ".", 1): value for key, value in spec.items()}
    api.put("ResourceQuota", name, NAMESPACE, spec={"hard": {**QUOTA, **changed}})


def limits(api: KubeApi, **item: Any) -> None:
    api.put("LimitRange", "nas", NAMESPACE, spec={"limits": [{**LIMITS, **item}]})


def test_a_quota_of_no_gpus_refuses_the_default_pipeline(api: KubeApi) -> None:
    api.put("ResourceQuota", "nas", NAMESPACE, spec={
        "hard": {**QUOTA, "requests.nvidia.com/gpu": "0"},
    })  # fmt: skip
    found = only()
    assert (found.name, found.state) == ("quota", "problem")
    assert found.seen.startswith("nas allows 0 requests.nvidia.com/gpu; the pod of ")
    assert all(f"--set cluster.steps.{step}.gpus=0" in found.advice for step in GPU_STEPS)
    assert "prepare_data" not in found.seen
    assert found.command == "kubectl -n nas describe resourcequota nas"


@pytest.mark.parametrize("spelling", ["3999m", "3.999", "3", "2e0", "+3", "1.", ".5", "3999000u"])
def test_a_quota_that_one_step_does_not_fit(api: KubeApi, spelling: str) -> None:
    hard(api, requests_cpu=spelling)
    found = only()
    assert found.state == "problem"
    assert "requests.cpu" in found.seen
    assert "--set cluster.steps.search.cpu=CPUS" in found.advice


@pytest.mark.parametrize("spelling", ["16", "16000m", "1.6e1", "0.016k", "16E0"])
def test_a_quota_that_search_and_workers_just_fit(api: KubeApi, spelling: str) -> None:
    # Three pods of 4 CPUs, and Argo's container in each, of 50m by the limit range.
    hard(api, requests_cpu=spelling)
    assert wrong() == []


def test_search_and_workers_that_do_not_fit_together_wait(api: KubeApi) -> None:
    hard(api, requests_cpu="12")
    found = only()
    assert (found.name, found.state) == ("quota", "warning")
    assert "leaves 12 requests.cpu; the search and its workers ask for 12.15" in found.seen
    hard(api, requests_cpu="5")
    assert wrong(target(LONELY)) == []


def pod(api: KubeApi, name: str, cpu: str, phase: str | None, **labels: str) -> None:
    resources = {"requests": {"cpu": cpu, "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    api.put(
        "Pod",
        name,
        NAMESPACE,
        metadata={"labels": labels} if labels else {},
        spec={"containers": [{"name": "main", "resources": resources}]},
        **({"status": {"phase": phase}} if phase else {}),
    )


def test_what_services_take_is_never_free(api: KubeApi) -> None:
    hard(api, requests_cpu="6")
    pod(api, "nas-mlflow-0", "2", "Running")
    pod(api, "new", "500m", None)
    pod(api, "done", "6", "Succeeded")
    pod(api, "run", "6", "Running", **{"pipeline/runid": "x"})
    found = only(target(LONELY))
    assert found.state == "problem"
    assert "allows 6 requests.cpu, of which other pods always take 2.5" in found.seen
    api.denied = {("list", "pods")}
    assert wrong(target(LONELY)) == [], "what cannot be seen is not made up"


def test_a_quota_counts_the_containers_of_argo(api: KubeApi) -> None:
    # 16 GB of the search, and 512Mi of Argo's container by the limit range.
    hard(api, limits_memory="16G")
    assert "limits.memory" in only(target(LONELY)).seen
    hard(api, limits_memory=str(16 * 10**9 + 512 * 2**20))
    assert wrong(target(LONELY)) == []
    data = {"executor": "resources: {requests: {cpu: 10m}, limits: {memory: 1Gi}}"}
    data["workflowDefaults"] = "spec: {templateDefaults: {retryStrategy: {retryPolicy: OnError}}}"
    api.put("ConfigMap", "workflow-controller-configmap", "kubeflow", data=data)
    assert "limits.memory" in only(target(LONELY)).seen


def test_a_quota_refuses_what_does_not_name_its_resource(api: KubeApi) -> None:
    api.drop("LimitRange", "nas", NAMESPACE)
    named = {one.seen.split(" counts ")[1].split(",")[0]: one for one in wrong()}
    assert set(named) == {"requests.cpu", "requests.memory", "limits.memory"}
    assert "(wait" in named["limits.memory"].seen
    assert "LimitRange with default.memory" in named["limits.memory"].advice
    limits(api)
    hard(api, limits_cpu="64")
    found = only()
    assert "nas counts limits.cpu" in found.seen
    assert "(main, wait" in found.seen


@pytest.mark.parametrize(
    ("scope", "is_counted"),
    [
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["NotBestEffort"]}, True),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotBestEffort", "NotTerminating"]}, True),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass"}]}}, False),
    ],
)
def test_a_quota_counts_pods_of_its_scope(
    api: KubeApi, scope: dict[str, Any], is_counted: bool
) -> None:
    api.put("ResourceQuota", "more", NAMESPACE, spec={"hard": {"pods": "0"}, **scope})
    assert [one.state for one in wrong()] == ["problem"] * is_counted


def test_a_step_with_a_time_limit_is_of_scope_terminating(api: KubeApi) -> None:
    api.put(
        "ResourceQuota", "more", NAMESPACE, spec={"hard": {"pods": "0"}, "scopes": ["Terminating"]}
    )
    steps = {"promote": {"timeout_s": 60}}
    settings = {**SETTINGS, "cluster": {**SETTINGS["cluster"], "steps": steps}}
    assert "the pod of promote asks for up to 1" in only(target(settings)).seen


def test_a_new_quota_has_no_status_and_a_namespace_may_have_none(api: KubeApi) -> None:
    quota: Any = api.find("ResourceQuota", "nas", NAMESPACE)
    assert "status" not in quota
    assert wrong() == []
    api.drop("ResourceQuota", "nas", NAMESPACE)
    assert wrong() == []


# --- limit ranges ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"max": {"memory": "8Gi"}}, "of container main, at most 8Gi memory are allowed"),
        ({"default": {"cpu": "500m"}}, "asks for 4 cpu, and the default limit is 0.5"),
        ({"max": {"cpu": "1"}}, "asks for 4 cpu, and the default limit is 1"),
        ({"min": {"cpu": "200m"}, "defaultRequest": {"memory": "64Mi"}}, "kfp-launcher"),
        ({"maxLimitRequestRatio": {"memory": "2"}}, "may be 2 times the request"),
    ],
)
def test_a_limit_range_that_refuses_pods(api: KubeApi, item: dict[str, Any], told: str) -> None:
    api.drop("ResourceQuota", "nas", NAMESPACE)
    limits(api, **item)
    found = wrong()
    assert {(one.name, one.state) for one in found} == {("limit-range", "problem")}
    assert any(told in one.seen for one in found), [one.seen for one in found]
    assert all("edit limitrange nas" in one.advice for one in found)


def test_a_limit_range_for_whole_pods(api: KubeApi) -> None:
    item = {"type": "Pod", "max": {"memory": "12Gi"}}
    api.put("LimitRange", "pods", NAMESPACE, spec={"limits": [item]})
    found = only()
    assert "LimitRange pods refuses the pods of pretrain_controller, search" in found.seen
    assert "profile_latency" not in found.seen, "it asks for 8 GB"
    assert "--set cluster.steps.search.memory=SIZE" in found.advice


def test_a_limit_range_for_claims_says_nothing_of_pods(api: KubeApi) -> None:
    item = {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}
    api.put("LimitRange", "claims", NAMESPACE, spec={"limits": [item]})
    assert wrong() == []


# --- amounts, and what a pipeline asks for --------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5Gi", 1.5 * 2**30),
        ("128974848000m", 128974848),
        ("129e6", 129e6),
        ("129M", 129e6),
        ("1E", 10**18),
        ("1E3", 1000),
        ("100n", 1e-7),
        ("-1", -1),
        (4, 4),
        ("0", 0),
    ],
)
def test_spellings_of_amounts(text: str, value: float) -> None:
    assert parse(text) == pytest.approx(Decimal(value))


def test_amounts_are_written_for_people() -> None:
    shown = [show(*one) for one in (
        ("cpu", Decimal("0.5")), ("memory", Decimal(2**30)), ("limits.memory", Decimal(10)),
        ("requests.nvidia.com/gpu", Decimal(8)), ("pods", Decimal(100)),
    )]  # fmt: skip
    assert shown == ["0.5", "1Gi", "10", "8", "100"]


def test_a_pod_takes_what_runs_together_or_before_whatever_is_more() -> None:
    main = Container.of("main", {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})
    wait = Container.of("wait", {"requests": {"cpu": "10m"}})
    first = Container.of("init", {"requests": {"cpu": "2"}})
    pod = PodDemand((main, wait), (first,))
    assert pod.requests == {"cpu": 2, "memory": 2**30}, "a limit is a request, too"
    assert PodDemand((main, wait)).requests["cpu"] == Decimal("1.01")


def test_what_the_pipelines_ask_for() -> None:
    steps = {step.name: step for step in demand(SETTINGS).steps}
    assert steps["search"].gpus == 1
    assert steps["search"].user == 10001
    assert steps["search_worker"].copies == 2
    assert steps["prepare_data"].gpus == 0
    assert steps["search"].claims == {"nas-state": "/var/lib/nas"}
    assert demand(SETTINGS).references("secrets") == {
        "nas-study": {"url"},
        "nas-mlflow": {"username", "password"},
    }
    retrain = {step.name: step for step in demand(SETTINGS, "retrain").steps}
    shared = {*steps} - {"train_references"}
    assert set(retrain) == {*shared, "review", "reuse"}, "branches share their steps"
    assert retrain["train_final"].copies == 1, "one branch is taken"
