"""The manifests as they would be applied: built offline, checked, with planted faults."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import manifest_policies as policies
import manifest_rules as rules
import pytest
import yaml
from manifest_build import (
    EGRESS,
    MANIFESTS,
    OPTIONAL,
    SHARED,
    WAYS,
    build,
    container,
    find,
    namespace,
)
from manifest_objects import Object, containers, template

from components.config import parse
from components.image import IMAGE

VARIANTS = (
    *WAYS,
    "profile+backup+clean-state",
    "local+backup+clean-state",
    "gpu+state-volume",
    "prod+state-volume+backup+clean-state",
    "single-user+state-volume",
    *(f"gpu+{one}" for one in EGRESS),
    *(f"single-user+backup+clean-state+{one}" for one in EGRESS if one != "egress/cilium"),
)
"""Every component in a closed and in a shared namespace."""
DOCS = (MANIFESTS.parent / "docs" / "operators.md").read_text()


def test_every_overlay_is_looked_at() -> None:
    assert {path.name for path in (MANIFESTS / "overlays").iterdir()} == set(WAYS)
    folders = {path.parent for path in MANIFESTS.rglob("kustomization.yaml")}
    known = {"base", "closed", *EGRESS, *OPTIONAL, *(f"overlays/{way}" for way in WAYS)}
    assert {str(path.relative_to(MANIFESTS)) for path in folders} == known
    assert {one for variant in VARIANTS for one in variant.split("+")[1:]} | {"small"} == {
        *EGRESS,
        *OPTIONAL,
    }


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_way_to_install_keeps_every_rule(variant: str, rule: Any) -> None:
    assert list(rule(build(variant))) == []


@pytest.mark.parametrize("variant", [one for one in VARIANTS if one.startswith(SHARED)])
def test_nothing_reaches_all_pods_of_a_namespace_that_others_use(variant: str) -> None:
    objects = build(variant)
    assert list(policies.shared(objects)) == []
    used = {one["metadata"].get("namespace", "") for one in objects}
    assert used - {""} == {{"single-user": "kubeflow", "profile": "team-a"}[variant.split("+")[0]]}


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


# --- what the rules cannot know -------------------------------------------------------------


def documented() -> set[tuple[str, str]]:
    """NAME and KEY of the table of secrets and settings in the operators' page."""
    rows = re.findall(r"^\| `(nas-[\w-]+)` \| (.*?) \|", DOCS, re.MULTILINE)
    return {(name, key) for name, keys in rows for key in re.findall(r"`([^`]+)`", keys)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_secret_that_is_read_is_documented(variant: str) -> None:
    found = {(name, key) for _, name, key in rules.references(build(variant))}
    assert found
    assert found <= documented()


@pytest.mark.parametrize("way", WAYS)
def test_the_configuration_of_a_way_is_right_and_reads_what_is_documented(way: str) -> None:
    config = parse(yaml.safe_load((MANIFESTS / "overlays" / way / "cluster.yaml").read_text()))
    given = {**config.cluster.secrets, **config.cluster.config_maps}
    assert {tuple(reference.split("/")) for reference in given.values()} <= documented()
    objects = build(way)
    settings = find(objects, "ConfigMap", "nas-settings")["data"]
    assert config.tracking.uri == settings["MLFLOW_TRACKING_URI"]
    if config.cluster.state == "pvc:nas-state":
        find(objects, "PersistentVolumeClaim", "nas-state")
    else:
        # As seaweedfs.sh makes the bucket, and clean-state cleans it.
        [args] = [container(build(f"{way}+clean-state"), "clean")["args"]]
        assert config.cluster.state == args[args.index("--state") + 1] == "s3://nas-state/runs"


@pytest.mark.parametrize("way", ["single-user", "profile", "local", "gpu"])
def test_the_server_runs_from_the_image_of_the_steps(way: str) -> None:
    assert container(build(way), "mlflow")["image"] == IMAGE


@pytest.mark.parametrize("way", WAYS)
def test_all_of_a_way_has_two_images(way: str) -> None:
    objects = build(f"{way}+state-volume+backup+clean-state" if way != "local" else way)
    images = {one["image"] for _, one, _ in containers(objects)}
    wanted = {container(objects, name)["image"] for name in ("mlflow", "postgres")}
    assert images == wanted


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_server_answers_to_every_name_of_its_service(variant: str) -> None:
    """Finding L7; 403 to clients otherwise, while /health stays green."""
    [argument] = [
        one.removeprefix("--allowed-hosts=")
        for one in container(build(variant), "mlflow")["args"]
        if one.startswith("--allowed-hosts=")
    ]
    name = f"nas-mlflow.{namespace(variant)}"
    names = ("nas-mlflow", name, f"{name}.svc", f"{name}.svc.cluster.local")
    wanted = {host for one in names for host in (one, f"{one}:5000")}
    assert set(argument.split(",")) == wanted | {"localhost:5000"}


def test_production_takes_digests_alone_and_outlives_a_node() -> None:
    objects = build("prod+state-volume+backup+clean-state")
    assert list(rules.digests(objects)) == []
    assert list(rules.digests(build("gpu"))) != []
    budget = find(objects, "PodDisruptionBudget", "nas-mlflow")["spec"]
    assert find(objects, "Deployment", "nas-mlflow")["spec"]["replicas"] > budget["minAvailable"]
    # One server: a drain waits rather than end it in the middle of a search.
    budget = find(objects, "PodDisruptionBudget", "nas-postgres")["spec"]
    assert budget["maxUnavailable"] == 0
    server = find(objects, "StatefulSet", "nas-postgres")
    assert (
        budget["selector"]["matchLabels"].items() <= template(server)["metadata"]["labels"].items()
    )


def test_production_keeps_its_data_outside() -> None:
    settings = find(build("prod"), "ConfigMap", "nas-settings")["data"]
    assert settings["AWS_ENDPOINT_URL"].startswith("https://")


@pytest.mark.parametrize(("overlay", "gpus"), [("local", "0"), ("gpu", "8"), ("prod", "64")])
def test_the_quota_of_gpus(overlay: str, gpus: str) -> None:
    quota = find(build(overlay), "ResourceQuota", "nas")["spec"]["hard"]
    assert quota["requests.nvidia.com/gpu"] == gpus
