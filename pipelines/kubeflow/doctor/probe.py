"""Probe: `nas doctor` in a pod of the cluster, which checks image, volume and connections.

It creates a Job in the cluster, so it runs only on request, and removes the Job.
"""

import json
import shlex
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.kubeflow.doctor.client import Forbidden, JsonObject, Kube, KubeError, Resource, short
from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, no_right
from pipelines.kubeflow.doctor.probe_job import LABELS, job_of, settings
from pipelines.kubeflow.doctor.rights import account_of
from pipelines.kubeflow.doctor.target import Target

NAME = "probe"
_PAUSE_S = 2.0
# States that a pod does not leave by itself.
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
    """Run `nas doctor` in a pod like those of the steps, and yield its findings.

    Args:
        target: target of the checks.
        limit_s: longest wait for the pod.
    """
    name = f"nas-doctor-{uuid.uuid4().hex[:8]}"
    place = target.own("jobs", group="batch/v1")
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
        left = _remove(target.kube, target.own("jobs", name, group="batch/v1"))
    if left:
        command = target.kubectl("delete", "job", name)
        yield Reporter(NAME, command).warning(f"Job {name} is still there: {left}", command)


def _remove(kube: Kube, job: Resource) -> str:
    """Delete the Job and its pod; return the error, empty if there is none."""
    try:
        kube.delete(job)
    except KubeError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class _Probe:
    """A Job that has been created."""

    target: Target
    name: str
    limit_s: float

    def findings(self) -> Iterator[ClusterFinding]:
        """Wait for the end of the pod, and yield its findings."""
        end = time.monotonic() + self.limit_s
        pod: JsonObject | None = None
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

    def _pod(self) -> JsonObject | None:
        pods = self.target.own("pods")
        found = self.target.kube.now(pods, labelSelector=f"job-name={self.name}").get("items")
        return found[0] if found else None

    def _refused(self) -> tuple[str, str] | None:
        """Return why the cluster creates no pod for the Job, from its events, and what to do."""
        events = self.target.own("events")
        try:
            found = self.target.kube.now(
                events, fieldSelector=f"involvedObject.name={self.name},reason=FailedCreate"
            ).get("items")
        except Forbidden:  # the time limit ends the wait
            return None
        if not found:
            return None
        message = str(found[0].get("message") or "no reason given")
        return (
            f"no pod is made: {short(message)}",
            "remove the cause; pods of steps are refused too",
        )

    def _ended(self, pod: JsonObject) -> Iterator[ClusterFinding]:
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
                f"pod-{row['check']}", row["status"], row["detail"], row["remedy"], self._again
            )

    def _problem(self, seen: str, advice: str) -> ClusterFinding:
        command = self.target.kubectl("get", "events", "--sort-by=.lastTimestamp")
        return Reporter(NAME, command).problem(seen, advice)

    @property
    def _again(self) -> str:
        """Command of the same probe without secrets and volume, which `kubectl run` lacks."""
        labels = ",".join(f"{name}={value}" for name, value in LABELS.items())
        words = shlex.split(
            "run nas-doctor --rm --attach --restart=Never "
            f"--labels={labels},pipeline/runid=doctor --image={self.target.demand.image} -- "
            "nas doctor"
        )
        given = [word for setting in settings(self.target.config) for word in ("--set", setting)]
        return self.target.kubectl(*words, *given)


def _statuses(pod: JsonObject) -> list[JsonObject]:
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def _has_ended(pod: JsonObject) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _stuck(pod: JsonObject) -> tuple[str, str] | None:
    """Return why a container never starts, and what to do; None if it may start."""
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason in _STUCK:
            message = short(str(waiting.get("message") or ""))
            return f"the pod does not start: {reason}: {message}", _STUCK[reason]
    return None


def _waits_for(pod: JsonObject | None) -> str:
    if pod is None:
        return "there is no pod"
    status = pod.get("status") or {}
    reasons = [
        f"{one.get('reason')}: {short(str(one.get('message') or ''))}"
        for one in status.get("conditions") or ()
        if one.get("status") == "False" and one.get("reason")
    ]
    return "; ".join(reasons) or f"it is {status.get('phase') or 'new'}"


def _how(pod: JsonObject) -> str:
    """Return how the pod ended."""
    for status in _statuses(pod):
        ended = (status.get("state") or {}).get("terminated")
        if ended:
            texts = [str(ended.get(key) or "") for key in ("reason", "message")]
            more = short(" ".join(text for text in texts if text))
            return f"nas doctor in the pod ended with {ended.get('exitCode')} ({more})"
    status = pod.get("status") or {}
    return f"the pod ended: {status.get('reason') or status.get('phase')}"


def _rows(log: str) -> list[dict[str, Any]] | None:
    """Return the findings in a log, which are its last line of JSON; None without such a line."""
    for line in reversed(log.splitlines()):
        try:
            rows = json.loads(line)
        except ValueError:
            continue
        if isinstance(rows, list) and rows and all(map(_is_row, rows)):
            return rows
    return None


def _is_row(row: Any) -> bool:
    texts = ("check", "detail", "remedy")
    return (
        isinstance(row, dict)
        and row.get("status") in _STATES
        and all(isinstance(row.get(key), str) for key in texts)
    )
