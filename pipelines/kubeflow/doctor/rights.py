"""The service account of the pods, and what it may do: `manifests/base/accounts.yaml` grants it."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.kubeflow.doctor.client import Forbidden, Missing, Resource
from pipelines.kubeflow.doctor.findings import ClusterFinding, no_right
from pipelines.kubeflow.doctor.target import Target

SINGLE_USER, PROFILE = "pipeline-runner", "default-editor"
"""Accounts that KFP takes when none is named: without profiles, and with them."""


@dataclass(frozen=True, slots=True)
class Right:
    """A right that Kubeflow's containers in a pod of a step use.

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
        """As `kubectl auth can-i` takes it."""
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
    """Return the account of the pods: the one that was named, else the one that KFP takes.

    Raises:
        KubeError: KFP was not reached, and the accounts of the namespace cannot be seen.
    """
    if target.account is not None:
        return target.account
    if target.is_multi_user is not None:
        return PROFILE if target.is_multi_user else SINGLE_USER
    try:
        target.kube.get(target.own("serviceaccounts", PROFILE))
    except Missing:
        return SINGLE_USER
    return PROFILE


def check_account(target: Target) -> Iterator[ClusterFinding]:
    """Whether the service account is there."""
    account = account_of(target)
    command = target.kubectl("get", "serviceaccount", account)
    try:
        target.kube.get(target.own("serviceaccounts", account))
    except Missing:
        seen = f"there is no service account {account} in namespace {target.namespace}"
        advice = (
            "apply manifests/base and use --service-account nas-steps, or name another account "
            "with --service-account"
        )
        yield ClusterFinding("service-account", "problem", seen, advice, command)
        return
    yield ClusterFinding("service-account", "ok", account, command=command)


def check_rights(target: Target) -> Iterator[ClusterFinding]:
    """Whether the service account has the rights that Kubeflow's containers use."""
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
        yield ClusterFinding("rights", "problem", seen, advice, command)
    if not denied:
        seen = f"{account} may do what Kubeflow's containers do"
        yield ClusterFinding("rights", "ok", seen, command=commands[0])


def _grant(target: Target, account: str, right: Right) -> str:
    """Return the commands that give an account a right, by a role of its own."""
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
    """Ask for a review of the account's rights; nothing of it is kept by the server."""
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
