"""What only a pod in the cluster finds out: the image, the volume, and what it can reach.

Something is made in the cluster here, so it is done only when it is asked for, and is removed.
"""

import json
import shlex
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.kubeflow.doctor.client import Forbidden, Kube, KubeError, Resource, Thing, short
from pipelines.kubeflow.doctor.findings import ClusterFinding, no_right
from pipelines.kubeflow.doctor.probe_job import LABELS, job_of, settings
from pipelines.kubeflow.doctor.rights import account_of
from pipelines.kubeflow.doctor.target import Target

NAME = "probe"
_PAUSE_S = 2.0
# From these a pod does not get out by itself, or only when somebody outside changes something.
_STUCK = {
    "ImagePullBackOff": "check --image, and cluster.image_pull_secrets where the registry is not "
    "open to everybody",
    "InvalidImageName": "correct --image",
    "ErrImageNeverPull": "load the image on the nodes",
    "CreateContainerConfigError": "make the secret or config map that it names",
    "CreateContainerError": "see what the message says",
    "RunContainerError": "see what the message says",
}
_FORMAT = "exec format error"
_STATES = ("ok", "warning", "problem")


def probe(target: Target, *, limit_s: float) -> Iterator[ClusterFinding]:
    """Run `nas doctor` in a pod like those of the steps, and report what it says.

    Args:
        target: what is examined.
        limit_s: longest wait for the pod.
    """
    name = f"nas-doctor-{uuid.uuid4().hex[:8]}"
    place = Resource("batch/v1", "jobs", target.namespace)
    try:
        account = account_of(target)
        target.kube.create(place, job_of(target, name, account, limit_s=limit_s))
    except Forbidden as error:
        yield no_right(NAME, error)
        return
    try:
        yield from _Probe(target, name, limit_s).findings()
    except Forbidden as error:
        yield no_right(NAME, error)
    finally:
        left = _remove(target.kube, Resource(*_key(place), name))
    if left:
        command = target.kubectl("delete", "job", name)
        yield ClusterFinding(
            NAME, "warning", f"Job {name} is still there: {left}", command, command
        )


def _key(resource: Resource) -> tuple[str, str, str | None]:
    return resource.group, resource.plural, resource.namespace


def _remove(kube: Kube, job: Resource) -> str:
    """Delete the Job and its pod; what is wrong when that fails."""
    try:
        kube.delete(job)
    except KubeError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class _Probe:
    """A Job that has been made."""

    target: Target
    name: str
    limit_s: float

    def findings(self) -> Iterator[ClusterFinding]:
        """Wait for the pod, and yield what became of it."""
        end = time.monotonic() + self.limit_s
        pod: Thing | None = None
        while time.monotonic() < end:
            pod = self._pod()
            stuck = self._refused() if pod is None else _stuck(pod)
            if stuck is not None:
                yield self._problem(*stuck)
                return
            if pod is not None and _has_ended(pod):
                yield from self._ended(pod)
                return
            time.sleep(_PAUSE_S)
        seen = f"the pod was not done after {self.limit_s:g} s: {_waits_for(pod)}"
        yield self._problem(seen, "see what it waits for, or raise --probe-timeout")

    def _pod(self) -> Thing | None:
        pods = Resource("v1", "pods", self.target.namespace)
        found = self.target.kube.now(pods, labelSelector=f"job-name={self.name}").get("items")
        return found[0] if found else None

    def _refused(self) -> tuple[str, str] | None:
        """Why the cluster makes no pod of the Job, as its events say."""
        events = Resource("v1", "events", self.target.namespace)
        try:
            found = self.target.kube.now(
                events, fieldSelector=f"involvedObject.name={self.name},reason=FailedCreate"
            ).get("items")
        except Forbidden:  # then the time limit ends it
            return None
        if not found:
            return None
        message = str(found[0].get("message") or "no reason given")
        return f"no pod is made: {short(message)}", "mend what refuses it; steps fare the same"

    def _ended(self, pod: Thing) -> Iterator[ClusterFinding]:
        where = Resource("v1", "pods", self.target.namespace, pod["metadata"]["name"], "log")
        try:
            log = self.target.kube.text(where)
        except Forbidden as error:
            yield no_right(NAME, error)
            return
        except KubeError as error:
            yield self._problem(f"{_how(pod)}; its log cannot be read: {error}", "")
            return
        rows = _rows(log)
        if rows is None:
            advice = "give an image of this version of nas"
            if _FORMAT in log or _FORMAT in _how(pod):
                advice = "build the image for the architecture of the nodes, or select other nodes"
            yield self._problem(f"{_how(pod)}: {short(log[-500:]) or 'it wrote nothing'}", advice)
            return
        for row in rows:
            yield ClusterFinding(
                f"pod-{row['name']}", row["state"], row["seen"], row["advice"], self._again
            )

    def _problem(self, seen: str, advice: str) -> ClusterFinding:
        command = self.target.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return ClusterFinding(NAME, "problem", seen, advice, command)

    @property
    def _again(self) -> str:
        """The same without secrets and volume, which `kubectl run` does not give."""
        labels = ",".join(f"{name}={value}" for name, value in LABELS.items())
        words = shlex.split(
            "run nas-doctor --rm --attach --restart=Never "
            f"--labels={labels},pipeline/runid=doctor --image={self.target.demand.image} -- "
            "nas doctor"
        )
        given = [word for setting in settings(self.target.config) for word in ("--set", setting)]
        return self.target.kubectl(*words, *given)


def _statuses(pod: Thing) -> list[Thing]:
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def _has_ended(pod: Thing) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _stuck(pod: Thing) -> tuple[str, str] | None:
    """What a container waits for in vain, and what to do."""
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason in _STUCK:
            message = short(str(waiting.get("message") or ""))
            return f"the pod does not start: {reason}: {message}", _STUCK[reason]
    return None


def _waits_for(pod: Thing | None) -> str:
    if pod is None:
        return "there is no pod"
    status = pod.get("status") or {}
    told = [
        f"{one.get('reason')}: {short(str(one.get('message') or ''))}"
        for one in status.get("conditions") or ()
        if one.get("status") == "False" and one.get("reason")
    ]
    return "; ".join(told) or f"it is {status.get('phase') or 'new'}"


def _how(pod: Thing) -> str:
    """How the pod ended."""
    for status in _statuses(pod):
        ended = (status.get("state") or {}).get("terminated")
        if ended:
            told = [str(ended.get(key) or "") for key in ("reason", "message")]
            more = short(" ".join(one for one in told if one))
            return f"nas doctor in the pod ended with {ended.get('exitCode')} ({more})"
    status = pod.get("status") or {}
    return f"the pod ended: {status.get('reason') or status.get('phase')}"


def _rows(log: str) -> list[dict[str, Any]] | None:
    """The findings in a log, whose last line of JSON they are; None when there are none."""
    for line in reversed(log.splitlines()):
        try:
            rows = json.loads(line)
        except ValueError:
            continue
        if isinstance(rows, list) and rows and all(map(_is_row, rows)):
            return rows
    return None


def _is_row(row: Any) -> bool:
    texts = ("name", "seen", "advice")
    return (
        isinstance(row, dict)
        and row.get("state") in _STATES
        and all(isinstance(row.get(key), str) for key in texts)
    )
