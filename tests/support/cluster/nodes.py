"""What Argo keeps of a workflow: its nodes with their phases, and when it tries one again."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

_DURATIONS = ("backoffDuration", "backoffMaxDuration")


class Phase(StrEnum):
    """Of a node; Failed is a container that ended badly, Error is a pod that was lost
    (A: workflow/controller/operator.go:1750-1778, 1289)."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ERROR = "Error"
    SKIPPED = "Skipped"
    OMITTED = "Omitted"

    @property
    def is_bad(self) -> bool:
        return self in (Phase.FAILED, Phase.ERROR)


@dataclass(slots=True)
class Node:
    """A node of the workflow.

    Attributes:
        name: with those of all nodes around it, such as `w(0).root(0).search(0).executor`.
        shown: as the API lists it.
    """

    id: str
    name: str
    shown: str
    phase: Phase = Phase.RUNNING
    started: float = field(default_factory=time.time)
    finished: float | None = None
    children: list[str] = field(default_factory=list)
    history: list[tuple[float, Phase]] = field(default_factory=list)
    pod: str = ""
    log: Path | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class RetryStrategy:
    """As compiled, laid over templateDefaults.

    2.17's workflow-controller-configmap has limit 2 and policy OnError for every template, DAGs
    too (N1); KFP's compiler writes limit and backoff of a task, but never a policy (C3).

    Attributes:
        policy: OnError (2.17), OnFailure (2.16, where DAGs have no default) or Always.
        window_s: of all tries together, from the start of the first (C4).
    """

    policy: str = "OnError"
    limit: int = 2
    pause_s: float = 0.0
    factor: float = 1.0
    window_s: float | None = None

    def compiled(self, retry: Mapping[str, Any]) -> "RetryStrategy":
        """K: v2/compiler/argocompiler/container.go:640-685."""
        if not retry:
            return self
        seconds = {key: float(str(retry.get(key, "0s"))[:-1]) for key in _DURATIONS}
        return RetryStrategy(
            self.policy,
            int(retry["maxRetryCount"]),
            seconds["backoffDuration"],
            max(1.0, float(int(retry.get("backoffFactor", 0)))),
            seconds["backoffMaxDuration"],
        )

    def retries(self, phase: Phase) -> bool:
        """A: workflow/controller/operator.go:1102-1125."""
        wanted = {"Always": (Phase.FAILED, Phase.ERROR), "OnFailure": (Phase.FAILED,)}
        return phase in wanted.get(self.policy, (Phase.ERROR,))


KFP_2_17 = RetryStrategy()
KFP_2_16 = RetryStrategy(policy="OnFailure", limit=0)  # no templateDefaults


def worst(phases: Iterable[Phase]) -> Phase:
    """Failed and Error win over all else; of both, the Failed that nothing tries again."""
    found = set(phases)
    return next((one for one in (Phase.FAILED, Phase.ERROR) if one in found), Phase.SUCCEEDED)
