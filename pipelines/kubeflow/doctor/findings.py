"""Findings of the checks of a cluster."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.doctor.finding import Finding
from pipelines.kubeflow.doctor.client import Forbidden


@dataclass(frozen=True, slots=True)
class ClusterFinding(Finding):
    """A finding with the `kubectl` command that shows it."""

    command: str = ""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Makes the findings of one check, which share a name and a command."""

    name: str
    command: str

    def ok(self, seen: str) -> ClusterFinding:
        """Return a finding that all is well."""
        return ClusterFinding(self.name, "ok", seen, command=self.command)

    def warning(self, seen: str, advice: str) -> ClusterFinding:
        """Return a finding that may be wrong."""
        return ClusterFinding(self.name, "warning", seen, advice, self.command)

    def problem(self, seen: str, advice: str) -> ClusterFinding:
        """Return a finding that is wrong."""
        return ClusterFinding(self.name, "problem", seen, advice, self.command)


def no_right(name: str, error: Forbidden) -> ClusterFinding:
    """Return the finding of a check for which this account lacks a right."""
    advice = "ask for this right, or ask an administrator to run nas doctor --cluster"
    return ClusterFinding(name, "warning", f"not checked: {error}", advice, error.can_i)


def set_steps(steps: Iterable[str], setting: str) -> str:
    """Return the options that change a setting of steps, such as `gpus=0`."""
    return " ".join(f"--set cluster.steps.{step}.{setting}" for step in steps)
