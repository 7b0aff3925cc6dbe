"""A namespace as a way to install fills it, in the stand-in for the Kubernetes API."""

import json
from functools import cache
from typing import Any

import yaml
from kube_api import KubeApi
from manifest_build import MANIFESTS, build, namespace
from manifest_objects import Object, pods

from components.config.schema import Config, parse
from pipelines.kubeflow.doctor import kubeconfig
from pipelines.kubeflow.doctor.demand import Demand, demand_of
from pipelines.kubeflow.doctor.target import Target

# backend/src/v2/compiler/argocompiler/argo.go of kubeflow/pipelines 2.17.0, `driverResources`.
DRIVER = {
    "requests": {"cpu": "0.1", "memory": "64Mi"},
    "limits": {"cpu": "0.5", "memory": "0.5Gi"},
}
IMAGE = "repo/nas:1.2"


def settings(way: str) -> dict[str, Any]:
    """What the overlay's own cluster.yaml says."""
    file = MANIFESTS / "overlays" / way.split("+")[0] / "cluster.yaml"
    parsed: dict[str, Any] = yaml.safe_load(file.read_text())
    return parsed


def compiled(given: dict[str, Any], kind: Any = "search") -> tuple[Config, Demand]:
    """The default pipeline with a configuration, and what its pods ask for."""
    return _compiled(json.dumps(given), kind)


@cache  # it takes most of the time of a test
def _compiled(text: str, kind: Any) -> tuple[Config, Demand]:
    config = parse(json.loads(text))
    return config, demand_of(config, kind=kind, image=IMAGE)


def fill(api: KubeApi, way: str, demand: Demand) -> None:
    """Put quotas, limits and all pods that may run at the time of the steps into the namespace.

    These are the services with one replica more, as while they are updated; every Job and CronJob;
    and drivers of KFP, as many as there are steps at the same time, with Argo's containers.
    """
    objects, where = build(way), namespace(way)
    api.put("Namespace", where, metadata={"labels": {}})
    for one in objects:
        if one["kind"] in ("ResourceQuota", "LimitRange"):
            api.put(one["kind"], one["metadata"]["name"], where, spec=one["spec"])
    replicas = {
        f"{o['kind']}/{o['metadata']['name']}": o["spec"].get("replicas")
        for o in objects
        if "spec" in o
    }
    for name, template in pods(objects):
        count = (replicas[name] or 1) + (name.startswith("Deployment/"))
        for number in range(count):
            _run(api, f"{name.partition('/')[2]}-{number}", where, template["spec"])
    at_once = sum(step.copies for step in demand.at_once())
    for number in range(at_once):
        main, argo = {"name": "main", "resources": DRIVER}, {"name": "wait", "resources": {}}
        init = {"name": "init", "resources": {}}
        _run(api, f"driver-{number}", where, {"containers": [main, argo], "initContainers": [init]})


def _run(api: KubeApi, name: str, namespace: str, spec: Object) -> None:
    """A pod as admission leaves it: with the defaults of the limit ranges."""
    limits = [one for each in api.of("LimitRange") for one in each["spec"]["limits"]]
    admitted = {
        key: [_with_defaults(one, limits) for one in spec.get(key, [])]
        for key in ("containers", "initContainers")
    }
    api.put("Pod", name, namespace, spec=admitted, status={"phase": "Running"})


def _with_defaults(container: Object, limits: list[Object]) -> Object:
    given = container.get("resources") or {}
    made: Object = {"requests": {}, "limits": {}}
    for one in limits:
        made["requests"] |= one.get("defaultRequest", {})
        made["limits"] |= one.get("default", {})
    # A limit that is given is the request, too, where none is given.
    made["requests"] |= given.get("limits", {}) | given.get("requests", {})
    made["limits"] |= given.get("limits", {})
    return {"name": container["name"], "resources": made}


def target(way: str, config: Config, demand: Demand, health: Any = None) -> Target:
    kube = kubeconfig.connect()
    assert kube is not None
    return Target(kube, config, demand, namespace(way), "kubeflow", "nas-steps", health)
