"""The list of a run's tasks as KFP 2.17 gives it: the nodes of an Argo workflow.

Rules, from KFP's compiler for Argo and from Argo: every template gets a retry wrapper `x` with a
node `x(0)` for each try; a step has a driver before it, and its work is the pod `executor` below
it; a loop has a task group and a wrapped item for each iteration; what will not run is "Omitted",
which KFP sends as no state. A node's id is the workflow's name with FNV-1a of its full name; the
list holds it only where another node leads to it. No task has an error, a parent or a pod.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

ZERO = "0001-01-01T00:00:00Z"  # of Go's clock
_TICK_S = 60


@dataclass(frozen=True)
class Step:
    """A task of the pipeline; `tries` are states of its pods, the last one decides.

    Attributes:
        driver: state of the driver; the step does not run when it fails.
    """

    name: str
    state: str = "SUCCEEDED"
    tries: tuple[str, ...] = ()
    driver: str = "SUCCEEDED"


@dataclass(frozen=True)
class Loop:
    """The same steps for each item."""

    name: str
    items: tuple[tuple["Part", ...], ...]

    @property
    def state(self) -> str:
        return _state_of([part for item in self.items for part in item])


@dataclass(frozen=True)
class Group:
    """A condition, or an exit handler with the step that runs at its end."""

    name: str
    parts: tuple["Part", ...]
    exit_step: Step | None = None

    @property
    def state(self) -> str:
        return _state_of(self.parts)


Part = Step | Loop | Group


def cancelled(parts: Sequence[Part]) -> tuple[Part, ...]:
    """What runs is FAILED then; nothing says that it was cancelled."""
    found: list[Part] = []
    for part in parts:
        if isinstance(part, Loop):
            found.append(replace(part, items=tuple(cancelled(item) for item in part.items)))
        elif isinstance(part, Group):
            found.append(replace(part, parts=cancelled(part.parts)))
        elif part.state in ("RUNNING", "PENDING"):
            found.append(Step(part.name, "FAILED"))
        else:
            found.append(part)
    return tuple(found)


def _state_of(parts: Sequence[Part]) -> str:
    states = {part.state for part in parts}
    return next((s for s in ("RUNNING", "FAILED") if s in states), "SUCCEEDED")


def node_id(workflow: str, name: str) -> str:
    number = 0x811C9DC5
    for byte in name.encode():
        number = ((number ^ byte) * 0x01000193) % 2**32
    return f"{workflow}-{number}"


@dataclass
class Nodes:
    """All nodes of a workflow.

    Attributes:
        wraps: whether the cluster retries every template, as KFP 2.17 ships it.
        age_s: how long ago the list changed last.
        tasks: as the API lists them.
        pods: ids of the nodes that did the work of a step, one for each try.
    """

    workflow: str
    run_id: str
    parts: tuple[Part, ...]
    wraps: bool = True
    age_s: float = 0
    tasks: list[dict[str, Any]] = field(default_factory=list)
    pods: dict[str, list[str]] = field(default_factory=dict)
    _clock: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __post_init__(self) -> None:
        self._clock -= timedelta(seconds=self.age_s)

        def dag(name: str) -> list[str]:
            inner = self._template(f"{name}.root", state, self._sequence(self.parts))
            return self._pod(f"{name}.root-driver", "SUCCEEDED", [inner])

        state = _state_of(self.parts)
        self._template(self.workflow, state, dag)
        self.tasks.sort(key=lambda task: str(task["task_id"]))

    def _sequence(self, parts: Sequence[Part]) -> Callable[[str], list[str]]:
        """The nodes of parts that run one after the other, below a DAG."""

        def below(name: str) -> list[str]:
            following: list[str] = []
            for part in reversed(parts):
                if isinstance(part, Step) and part.state == "OMITTED":
                    for omitted in (f"{name}.{part.name}", f"{name}.{part.name}-driver"):
                        self._add(omitted, "", following)
                        following = [omitted]
                else:
                    following = self._part(f"{name}.{part.name}", part, following)
            return following

        return below

    def _part(self, name: str, part: Part, following: list[str]) -> list[str]:
        if isinstance(part, Step):
            if part.state == "SKIPPED":  # a branch that is not taken: its driver says so
                self._add(name, "SKIPPED", following)
                return self._pod(f"{name}-driver", "SUCCEEDED", [name])
            if part.driver == "PENDING":
                return self._pod(f"{name}-driver", "PENDING", [])
            if part.driver == "FAILED":
                self._add(name, "", following)
                return self._pod(f"{name}-driver", "FAILED", [name])
            inner = self._template(
                name, part.state, lambda one: [*self._work(f"{one}.executor", part), *following]
            )
        elif isinstance(part, Loop):
            loop = self._template(name, part.state, self._items(part))
            return [loop, *following]  # workers run while the search does
        else:
            hook = [] if part.exit_step is None else [self._exit_hook(name, part.exit_step)]
            inner = self._template(name, part.state, self._sequence(part.parts), hook)
        return self._pod(f"{name}-driver", "SUCCEEDED", [inner])

    def _exit_hook(self, name: str, step: Step) -> str:
        return self._template(f"{name}.onExit", step.state, self._sequence([step]))

    def _items(self, loop: Loop) -> Callable[[str], list[str]]:
        def below(name: str) -> list[str]:
            group, items = f"{name}.iteration-iterations", []
            for number, parts in enumerate(loop.items):
                state, steps = _state_of(parts), self._sequence(parts)

                def item(above: str, state: str = state, steps: Any = steps) -> list[str]:
                    inner = self._template(f"{above}.iteration-item", state, steps)
                    return self._pod(f"{above}.iteration-item-driver", "SUCCEEDED", [inner])

                items.append(self._template(f"{group}({number}:{number})", state, item))
            self._add(group, loop.state, items)
            return self._pod(f"{name}.iteration-driver", "SUCCEEDED", [group])

        return below

    def _work(self, name: str, step: Step) -> list[str]:
        states = step.tries or (step.state,)
        if not self.wraps and len(states) == 1:
            pods = [name]
        else:
            pods = [f"{name}({number})" for number in range(len(states))]
            self._add(name, step.state, pods)
        for pod, state in zip(pods, states, strict=True):
            self._add(pod, state, [])
        self.pods.setdefault(step.name, []).extend(node_id(self.workflow, pod) for pod in pods)
        return [name]

    def _template(
        self,
        name: str,
        state: str,
        below: Callable[[str], list[str]],
        hook: Sequence[str] = (),
    ) -> str:
        """A DAG, in its wrapper; a hook belongs to the outer one."""
        inner = f"{name}(0)" if self.wraps else name
        children = below(inner)
        self._add(inner, state, children if self.wraps else [*children, *hook])
        if self.wraps:
            self._add(name, state, [inner, *hook])
        return name

    def _pod(self, name: str, state: str, following: list[str]) -> list[str]:
        """A driver, in its wrapper; the children of the pod are what comes after it."""
        inner = f"{name}(0)" if self.wraps else name
        self._add(inner, state, following)
        if self.wraps:
            self._add(name, state, [inner])
        return [name]

    def _add(self, name: str, state: str, children: list[str]) -> None:
        start, end = self._clock, self._clock + timedelta(seconds=12 if state else 0)
        self._clock -= timedelta(seconds=1)  # nodes are made from the last to the first
        shown = name.removeprefix(self._boundary(name)).lstrip(".")
        ended = state not in ("RUNNING", "PENDING")
        task: dict[str, Any] = {
            "run_id": self.run_id,
            "task_id": str(uuid.uuid4()),
            "display_name": shown,
            "create_time": _text(start - timedelta(seconds=_TICK_S)),
            "start_time": _text(start),
            "end_time": _text(end) if ended else ZERO,
            "state_history": [{"update_time": _text(start), **_stated(state)}],
            "child_tasks": [{"pod_name": node_id(self.workflow, child)} for child in children],
            **_stated(state),
        }
        self.tasks.append({key: value for key, value in task.items() if value != []})

    @staticmethod
    def _boundary(name: str) -> str:
        """The DAG in which a node is; a hook's name goes on after a dot of its own."""
        stem = name.replace(".onExit", "/onExit")
        return stem.rpartition(".")[0].replace("/onExit", ".onExit")


def _stated(state: str) -> dict[str, str]:
    return {"state": state} if state else {}


def _text(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
