"""All checks of the cluster in their order."""

from collections.abc import Callable, Iterable, Iterator

from packaging.version import Version

from pipelines.kubeflow.doctor import (
    capacity,
    claim,
    kubeflow,
    limit_ranges,
    network,
    placing,
    references,
    rights,
)
from pipelines.kubeflow.doctor.client import Forbidden, KubeError, Resource, Unreachable
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, no_right
from pipelines.kubeflow.doctor.target import Target

Check = Callable[[Target], Iterator[ClusterFinding]]

_OLDEST = Version("1.32")


def check_api(target: Target) -> Iterator[ClusterFinding]:
    """Check that the Kubernetes API answers, and its version."""
    report = Reporter("kubernetes", target.kube.kubectl("version"))
    answer = target.kube.get(Resource("", "version"))
    said = str(answer.get("gitVersion") or "unknown")
    version = kubeflow.version_of(said.partition("-")[0])
    seen = f"{target.kube.place}: Kubernetes {said}"
    if version is None or version.release < _OLDEST.release:
        yield report.warning(seen, f"manifests and pipelines are made for {_OLDEST} or later")
        return
    yield report.ok(seen)


WITHOUT_WHICH_NOTHING_STARTS: tuple[tuple[str, Check], ...] = (
    ("kubeflow", kubeflow.check_version),
    ("service-account", rights.check_account),
    ("rights", rights.check_rights),
    ("secret", references.check_secrets),
    ("configmap", references.check_config_maps),
    ("pull-secret", references.check_pull_secrets),
    ("claim", claim.check_claim),
    ("quota", capacity.check_quotas),
    ("limit-range", limit_ranges.check_limit_ranges),
    ("nodes", placing.check_nodes),
    ("driver-nodes", placing.check_driver_nodes),
    ("architecture", placing.check_architecture),
    ("pod-security", network.check_pod_security),
)
"""Checks whose problems mean that a run can never work, with the names of their findings."""
_NAMESPACE: tuple[tuple[str, Check], ...] = (("namespace", network.check_namespace),)
_ALL: tuple[tuple[str, Check], ...] = (
    *WITHOUT_WHICH_NOTHING_STARTS,
    ("workflow-defaults", kubeflow.check_workflow_defaults),
    ("artifact-store", references.check_artifact_store),
    ("istio", network.check_istio),
)


def examine(target: Target) -> Iterator[ClusterFinding]:
    """Run all checks."""
    yield from _in_turn(target, (("kubernetes", check_api),), _ALL)


def examine_before_run(target: Target) -> Iterator[ClusterFinding]:
    """Run the checks whose problems mean that a run can never work."""
    yield from _in_turn(target, (), WITHOUT_WHICH_NOTHING_STARTS)


def _in_turn(
    target: Target, first: Iterable[tuple[str, Check]], rest: Iterable[tuple[str, Check]]
) -> Iterator[ClusterFinding]:
    """Run checks until the API is unreachable; those of the namespace only if it exists."""
    try:
        for name, check in (*first, *_NAMESPACE):
            for finding in _guarded(target, name, check):
                yield finding
                if name == "namespace" and finding.state == "problem":
                    return
        for name, check in rest:
            yield from _guarded(target, name, check)
    except Unreachable as error:
        command = target.kube.kubectl("cluster-info")
        advice = "see that the cluster can be reached from here, and choose it with --kube-context"
        yield ClusterFinding("kubernetes", "problem", str(error), advice, command)


def _guarded(target: Target, name: str, check: Check) -> Iterator[ClusterFinding]:
    """Yield the findings of a check, or one that states why it failed."""
    try:
        yield from check(target)
    except Forbidden as error:
        yield no_right(name, error)
    except Unreachable:
        raise
    except KubeError as error:
        command = target.kube.kubectl("api-resources")
        yield ClusterFinding(name, "warning", f"not checked: {error}", "", command)
    except Exception as error:  # an object of an unexpected form must not end the other checks
        seen = f"not checked: {type(error).__name__}: {error}"
        yield ClusterFinding(name, "warning", seen, "", target.kube.kubectl("api-resources"))
