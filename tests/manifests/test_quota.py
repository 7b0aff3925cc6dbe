"""The default pipeline of each way fits its quota and limits, with all that runs at the time.

What the pods ask for is read from the compiled pipeline, with KFP's and Argo's containers, and
compared by the checks that `nas doctor --cluster` makes.
"""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kube_api import KubeApi
from manifest_build import CLOSED, WAYS, build, find, namespace
from manifest_cluster import compiled, fill, settings, target
from manifest_objects import Object

from pipelines.kubeflow.doctor.capacity import check_quotas
from pipelines.kubeflow.doctor.findings import ClusterFinding
from pipelines.kubeflow.doctor.limit_ranges import check_limit_ranges
from pipelines.kubeflow.doctor.quantities import parse

OPTIONAL = "+backup+clean-state"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    api = KubeApi()
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield api
    api.close()


def wrong(api: KubeApi, way: str, given: dict[str, Any], kind: str) -> list[ClusterFinding]:
    """What does not fit; a search of which some workers must wait counts, too."""
    config, demand = compiled(given, kind)
    assert sum(step.copies for step in demand.at_once()) > 1, "workers are counted"
    fill(api, way, demand)
    one = target(way, config, demand)
    found = [*check_quotas(one), *check_limit_ranges(one)]
    assert found
    return [finding for finding in found if finding.state != "ok"]


@pytest.mark.parametrize("kind", ["search", "retrain"])
@pytest.mark.parametrize("way", WAYS)
def test_the_default_pipeline_fits(api: KubeApi, way: str, kind: str) -> None:
    assert wrong(api, way + OPTIONAL, settings(way), kind) == []


@pytest.mark.parametrize("way", WAYS)
def test_what_follows_the_search_asks_for_no_more(way: str) -> None:
    """It may begin while a worker still ends its last child: then it has the search's place."""
    _, demand = compiled(settings(way))
    asked = {step.name: step.container.requests for step in demand.steps}
    for name in ("train_final", "profile_latency", "promote", "close_run"):
        for resource, amount in asked[name].items():
            assert amount <= asked["search"].get(resource, 0), (name, resource)


@pytest.mark.parametrize("way", CLOSED)
def test_a_closed_way_has_what_the_pipeline_is_compared_with(api: KubeApi, way: str) -> None:
    _, demand = compiled(settings(way))
    fill(api, way, demand)
    assert api.find("ResourceQuota", "nas", namespace(way)) is not None
    assert api.find("LimitRange", "nas", namespace(way)) is not None
    running = {one["metadata"]["name"] for one in api.of("Pod")}
    assert {"nas-mlflow-0", "nas-postgres-0", "driver-0", "driver-1"} <= running


def _gpus(given: dict[str, Any], hard: dict[str, str]) -> None:
    """Finding H5: the configuration of another overlay, where the quota has no GPU."""
    del given["cluster"]["steps"]


def _many_workers(given: dict[str, Any], hard: dict[str, str]) -> None:
    given["search"]["workers"] = 8


def _little_memory(given: dict[str, Any], hard: dict[str, str]) -> None:
    hard["limits.memory"] = "12Gi"


def _large_step(given: dict[str, Any], hard: dict[str, str]) -> None:
    given["cluster"]["steps"]["train_final"]["memory"] = "40Gi"


def _few_pods(given: dict[str, Any], hard: dict[str, str]) -> None:
    hard["pods"] = "4"


@pytest.mark.parametrize(
    ("plant", "resource", "state"),
    [
        (_gpus, "requests.nvidia.com/gpu", "problem"),
        (_many_workers, "requests.memory", "warning"),
        (_little_memory, "limits.memory", "warning"),
        (_large_step, "limits.memory", "problem"),
        (_few_pods, "pods", "problem"),
    ],
)
def test_what_does_not_fit_is_seen(
    api: KubeApi,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[dict[str, Any], dict[str, str]], None],
    resource: str,
    state: str,
) -> None:
    objects, given = copy.deepcopy(build("local")), settings("local")
    plant(given, find(objects, "ResourceQuota", "nas")["spec"]["hard"])
    monkeypatch.setattr("manifest_cluster.build", lambda way: objects)
    found = wrong(api, "local", given, "search")
    assert any(one.state == state and resource in one.seen for one in found), found


def test_a_limit_that_refuses_a_step_is_seen(api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = copy.deepcopy(build("local"))
    [limit] = find(objects, "LimitRange", "nas")["spec"]["limits"]
    limit["max"] = {"memory": "2Gi"}
    monkeypatch.setattr("manifest_cluster.build", lambda way: objects)
    found = wrong(api, "local", settings("local"), "search")
    assert any("LimitRange nas refuses the pods of" in one.seen for one in found)


# --- volumes --------------------------------------------------------------------------------


def _storage(objects: list[Object]) -> list[str]:
    claims = [one["spec"] for one in objects if one["kind"] == "PersistentVolumeClaim"]
    for one in objects:
        if one["kind"] == "StatefulSet":
            claims += [claim["spec"] for claim in one["spec"]["volumeClaimTemplates"]]
    return [claim["resources"]["requests"]["storage"] for claim in claims]


@pytest.mark.parametrize("way", CLOSED)
def test_all_volumes_fit(way: str) -> None:
    objects = build(way + OPTIONAL + ("" if way == "local" else "+state-volume"))
    hard = find(objects, "ResourceQuota", "nas")["spec"]["hard"]
    claims = _storage(objects)
    assert len(claims) == 3 <= int(hard["persistentvolumeclaims"])
    assert sum(map(parse, claims)) <= parse(hard["requests.storage"])
