"""Each rule about manifests sees the faults that it is there for."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import manifest_policies as policies
import manifest_rules as rules
import pytest
from manifest_build import build, container, find
from manifest_objects import Object


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
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if labels.pop("component", None):
                labels["app"] = "metadata-grpc-server"


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


def _two_at_once(objects: list[Object]) -> None:
    del find(objects, "CronJob", "nas-postgres-backup")["spec"]["concurrencyPolicy"]


def _hanging_job(objects: list[Object]) -> None:
    schedule = find(objects, "CronJob", "nas-clean-state")
    del schedule["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"]


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
        (rules.jobs, _two_at_once),
        (rules.jobs, _hanging_job),
        (rules.volumes, _volume_of_root),
        (rules.volumes, _slow_volume),
        (rules.volumes, _no_such_claim),
        (rules.images, _moving_tag),
        (rules.digests, _moving_tag),
        (rules.tokens, _token),
        (rules.tokens, _all_secrets),
        (policies.selectors, _stale_selector),
        (policies.selectors, _stale_peer),
        (policies.selectors, _metadata_by_a_label_that_it_has_not),
        (policies.sidecars, _proxy),
        (policies.borders, _open_border),
        (policies.borders, _no_border),
        (policies.ports, _other_port),
        (rules.own_maps, _no_such_map),
    ],
)
def test_a_rule_sees_a_planted_fault(
    rule: Callable[[list[Object]], Iterator[str]], plant: Callable[[list[Object]], None]
) -> None:
    objects = copy.deepcopy(build("prod+state-volume+backup+clean-state"))
    assert list(rule(objects)) == []
    plant(objects)
    assert list(rule(objects)) != []


def _deny_all(objects: list[Object]) -> None:
    objects.append(find(build("gpu"), "NetworkPolicy", "nas-deny-all"))


def _limits(objects: list[Object]) -> None:
    objects.append(find(build("gpu"), "LimitRange", "nas"))


def _steps_of_others(objects: list[Object]) -> None:
    objects.append(find(build("gpu"), "NetworkPolicy", "nas-steps"))


def _every_peer(objects: list[Object]) -> None:
    policy = find(objects, "NetworkPolicy", "nas-mlflow")
    policy["spec"]["ingress"][0]["from"].append({"podSelector": {}})


@pytest.mark.parametrize("plant", [_deny_all, _limits, _steps_of_others, _every_peer])
def test_what_reaches_pods_of_others_is_seen(plant: Callable[[list[Object]], None]) -> None:
    objects = copy.deepcopy(build("single-user"))
    plant(objects)
    assert list(policies.shared(objects)) != []
