"""What a check of the cluster reports."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.doctor.finding import Finding
from pipelines.kubeflow.doctor.client import Forbidden


@dataclass(frozen=True, slots=True)
class ClusterFinding(Finding):
    """A finding, and the `kubectl` command that shows what was seen."""

    command: str = ""


def no_right(name: str, error: Forbidden) -> ClusterFinding:
    """Report a check that the rights of this account do not suffice for."""
    advice = "ask for this right, or let somebody who has it run nas doctor --cluster"
    return ClusterFinding(name, "warning", f"not checked: {error}", advice, error.can_i)


def set_steps(steps: Iterable[str], setting: str) -> str:
    """Return the options that change a setting of steps, such as `gpus=0`."""
    return " ".join(f"--set cluster.steps.{step}.{setting}" for step in steps)
