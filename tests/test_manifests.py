"""The manifests as they would be applied: built offline, checked, with planted faults."""

import re
from typing import Any

import click
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
from manifest_objects import containers, template

from components.config.schema import parse
from components.image import IMAGE
from pipelines.cli import main

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


@pytest.mark.parametrize("way", WAYS)
def test_the_clean_up_is_a_command_that_nas_takes(way: str) -> None:
    one = container(build(f"{way}+clean-state"), "clean")
    program, name = one["command"]
    command = main.get_command(click.Context(main), name)
    assert program == "nas"
    assert command is not None
    given = command.make_context(name, list(one["args"])).params
    assert (given["days"], given["state"]) == (30, "s3://nas-state/runs")
    variables = {each["name"] for each in one["env"]}
    assert {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= variables
