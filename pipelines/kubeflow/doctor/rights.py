"""Service account of the pods and its rights, which `manifests/base/accounts.yaml` grants."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.kubeflow.doctor.client import Forbidden, Resource
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, no_right
from pipelines.kubeflow.doctor.target import Target

SINGLE_USER, PROFILE = "pipeline-runner", "default-editor"
"""Default accounts of KFP: without profiles, and with them."""


@dataclass(frozen=True, slots=True)
class Right:
    """Right that Kubeflow's containers in the pod of a step use.

    Attributes:
        why: what fails without it.
    """

    verb: str
    group: str
    plural: str
    why: str
    name: str = ""

    @property
    def words(self) -> tuple[str, str]:
        """Verb and resource in the form of `kubectl auth can-i`."""
        group = f".{self.group}" if self.group else ""
        return self.verb, f"{self.plural}{group}" + (f"/{self.name}" if self.name else "")


_RESULT = "no step can report how it ended, so every one of them fails after its work"
RIGHTS = (
    Right("create", "argoproj.io", "workflowtaskresults", _RESULT),
    Right("patch", "argoproj.io", "workflowtaskresults", _RESULT),
    Right("get", "", "pods", "the driver and launcher of each step fail"),
    Right("get", "", "configmaps", "the launcher does not know where artifacts go", "kfp-launcher"),
)


def account_of(target: Target) -> str:
    """Return the account of the pods: the named one, else KFP's default.

    Raises:
        KubeError: KFP was not reached, and the accounts of the namespace cannot be read.
    """
    if target.account is not None:
        return target.account
    if target.is_multi_user is not None:
        return PROFILE if target.is_multi_user else SINGLE_USER
    has_profile = target.kube.has(target.own("serviceaccounts", PROFILE))
    return PROFILE if has_profile else SINGLE_USER


def check_account(target: Target) -> Iterator[ClusterFinding]:
    """Check that the service account exists."""
    account = account_of(target)
    report = Reporter("service-account", target.kubectl("get", "serviceaccount", account))
    if target.kube.has(target.own("serviceaccounts", account)):
        yield report.ok(account)
        return
    yield report.problem(
        f"there is no service account {account} in namespace {target.namespace}",
        "apply manifests/base and use --service-account nas-steps, or name another account with "
        "--service-account",
    )


def check_rights(target: Target) -> Iterator[ClusterFinding]:
    """Check that the service account has the rights that Kubeflow's containers use."""
    account = account_of(target)
    user = f"system:serviceaccount:{target.namespace}:{account}"
    commands = [target.kubectl("auth", "can-i", *right.words, f"--as={user}") for right in RIGHTS]
    denied = []
    for right, command in zip(RIGHTS, commands, strict=True):
        try:
            if not _may(target, user, right):
                denied.append((right, command))
        except Forbidden as error:
            yield no_right("rights", Forbidden(str(error), command))
            return
    for right, command in denied:
        seen = f"{account} may not {' '.join(right.words)}: {right.why}"
        advice = f"use --service-account nas-steps, or grant it: {_grant(target, account, right)}"
        yield Reporter("rights", command).problem(seen, advice)
    if not denied:
        yield Reporter("rights", commands[0]).ok(f"{account} may do what Kubeflow's containers do")


def _grant(target: Target, account: str, right: Right) -> str:
    """Return the commands that grant a right to an account by a new role."""
    role = f"{account}-{right.verb}-{right.plural}"
    of_one = [f"--resource-name={right.name}"] if right.name else []
    resource = right.words[1].partition("/")[0]
    make = target.kubectl(
        *("create", "role", role, f"--verb={right.verb}", f"--resource={resource}"), *of_one
    )
    bound = f"--serviceaccount={target.namespace}:{account}"
    bind = target.kubectl("create", "rolebinding", role, f"--role={role}", bound)
    return f"{make} && {bind}"


def _may(target: Target, user: str, right: Right) -> bool:
    """Return whether an account has a right, by a review that the server does not store."""
    attributes = {
        "namespace": target.namespace,
        "verb": right.verb,
        "group": right.group,
        "resource": right.plural,
        "name": right.name,
    }
    everybody = "system:serviceaccounts"
    groups = [everybody, f"{everybody}:{target.namespace}", "system:authenticated"]
    review = target.kube.create(
        Resource("authorization.k8s.io/v1", "localsubjectaccessreviews", target.namespace),
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "LocalSubjectAccessReview",
            "metadata": {"namespace": target.namespace},
            "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
        },
    )
    return bool((review.get("status") or {}).get("allowed"))
