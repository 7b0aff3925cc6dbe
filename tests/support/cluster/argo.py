"""Argo's controller on what KFP's compiler writes: DAGs, retries, exit hooks, phases."""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from cluster.driver import EXIT, Driver, DriverError, Execution
from cluster.nodes import Node, Phase, RetryStrategy, worst
from cluster.spec import Json

RunPod = Callable[[Node, Execution, Json, int, float | None], Phase]


class Workflow:
    """One run.

    Args:
        name: of the workflow; node ids and pod names begin with it.
        default: retry strategy of templateDefaults.
        run_pod: runs the container of a task: node, execution, task, number of the try, deadline.
    """

    def __init__(
        self, name: str, driver: Driver, *, default: RetryStrategy, run_pod: RunPod
    ) -> None:
        self.name, self._driver, self._default, self._run_pod = name, driver, default, run_pod
        self.nodes: dict[str, Node] = {}
        self.lock = threading.RLock()
        self.shutdown = threading.Event()
        self._numbers = itertools.count(1)

    def run(self, parameters: Mapping[str, Any]) -> Phase:
        """Entry point and root: each begins its DAG again when it ends in an Error (N1)."""

        def entry(node: Node, deadline: float | None) -> Phase:
            try:
                execution = self._driver.root(parameters)
            except DriverError as error:
                self._pod_of_driver("root-driver", node, [node], Phase.FAILED, str(error))
                return Phase.FAILED
            driven = self._pod_of_driver("root-driver", node, [node])

            def root(inner: Node, deadline: float | None) -> Phase:
                return self._dag(inner, execution)

            return self._retried(f"{node.name}.root", [driven], self._default, root)[1]

        return self._retried(self.name, [], self._default, entry)[1]

    # --- nodes ------------------------------------------------------------------------------

    def _add(self, name: str, parents: Iterable[Node], phase: Phase = Phase.RUNNING) -> Node:
        with self.lock:
            node = Node(self.id_of(name), name, name.rpartition(").")[2])
            self.nodes[node.id] = node
            for parent in parents:
                parent.children.append(node.id)
            self.mark(node, phase)
            return node

    def id_of(self, name: str) -> str:
        """A: pkg/apis/workflow/v1alpha1 Workflow.NodeID: the FNV-1a hash of the node's name."""
        number = 0x811C9DC5
        for byte in name.encode():
            number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
        return self.name if name == self.name else f"{self.name}-{number}"

    def mark(self, node: Node, phase: Phase, message: str = "") -> None:
        with self.lock:
            node.phase = phase
            node.message = message or node.message
            node.history.append((time.time(), phase))
            if phase not in (Phase.PENDING, Phase.RUNNING):
                node.finished = time.time()

    def _pod_of_driver(
        self,
        name: str,
        within: Node,
        parents: list[Node],
        phase: Phase = Phase.SUCCEEDED,
        message: str = "",
    ) -> Node:
        """A driver's pod with the retry node around it; returns the inner one."""
        outer = self._add(f"{within.name}.{name}", parents)
        inner = self._add(f"{outer.name}(0)", [outer])
        for node in (inner, outer):
            self.mark(node, phase, message)
        return inner

    def _retried(
        self,
        name: str,
        parents: list[Node],
        strategy: RetryStrategy,
        body: Callable[[Node, float | None], Phase],
    ) -> tuple[Node, Phase]:
        """A: workflow/controller/operator.go processNodeRetries; returns the last try's node."""
        outer = self._add(name, parents)
        start, deadline = time.monotonic(), None
        for number in itertools.count():
            node = self._add(f"{name}({number})", [outer])
            phase = body(node, deadline)
            self.mark(node, phase)
            if not phase.is_bad or self.shutdown.is_set() or not strategy.retries(phase):
                break
            if number + 1 > strategy.limit:
                self.mark(outer, phase, "No more retries left")
                break
            pause_s = strategy.pause_s * strategy.factor**number
            if strategy.window_s is not None:
                deadline = start + strategy.window_s
                if time.monotonic() + pause_s > deadline:
                    self.mark(outer, phase, "Max duration limit exceeded")
                    break
            if self.shutdown.wait(pause_s):
                break
        self.mark(outer, phase)
        return node, phase

    # --- DAGs -------------------------------------------------------------------------------

    def _dag(self, node: Node, execution: Execution) -> Phase:
        """A: workflow/controller/dag.go:134-227: what can run runs, then a bad leaf fails it (H3).

        K: v2/compiler/argocompiler/dag.go: an exit task is a hook of the task that it follows.
        """
        tasks: Json = execution.component["dag"]["tasks"]
        exits = {name for name, task in tasks.items() if _is_exit(task)}
        hooks = {dep: name for name in exits for dep in tasks[name]["dependentTasks"]}
        needs = {name: _needs(task) for name, task in sorted(tasks.items()) if name not in exits}
        ended: dict[str, tuple[Node, Phase, Phase]] = {}  # node, phase, phase of its branch
        events = {name: threading.Event() for name in needs}

        def work(name: str) -> None:
            try:
                for need in needs[name]:
                    events[need].wait()
                parents = [ended[need][0] for need in needs[name]] or [node]
                branch = worst(ended[need][2] for need in needs[name])
                if any(ended[need][1] is not Phase.SUCCEEDED for need in needs[name]) or (
                    self.shutdown.is_set()
                ):
                    driver = self._add(f"{node.name}.{name}-driver", parents, Phase.OMITTED)
                    last = self._add(f"{node.name}.{name}", [driver], Phase.OMITTED)
                    ended[name] = last, Phase.OMITTED, branch
                    return
                last, phase = self._task(name, tasks[name], node, parents, execution)
                if name in hooks and not self.shutdown.is_set():
                    # Its own end does not matter: only target tasks decide on the DAG.
                    exit_ = hooks[name]
                    self._hook(f"{node.name}.{name}.onExit", exit_, tasks[exit_], last, execution)
                ended[name] = last, phase, phase if phase.is_bad else branch
            finally:
                ended.setdefault(name, (node, Phase.ERROR, Phase.ERROR))  # a fault of this module
                events[name].set()

        _all(work, needs)
        if self.shutdown.is_set():
            return Phase.FAILED  # A: dag.go:141
        inner = {need for some in needs.values() for need in some}
        return worst(ended[name][2] for name in needs if name not in inner)

    def _hook(self, place: str, name: str, task: Json, after: Node, execution: Execution) -> None:
        """A: workflow/controller/exit_handler.go."""

        def body(node: Node, deadline: float | None) -> Phase:
            return self._task(name, task, node, [node], execution)[1]

        self._retried(place, [after], self._default, body)

    def _task(
        self, name: str, task: Json, within: Node, parents: list[Node], execution: Execution
    ) -> tuple[Node, Phase]:
        """A task with its driver; returns the node of its last try, and its phase."""
        full = f"{within.name}.{name}"
        if "parameterIterator" in task:
            return self._retried(
                full, parents, self._default, lambda node, _: self._loop(node, name, execution)
            )
        driver = f"{name}-driver"
        try:
            made = self._driver.start(name, execution)
        except DriverError as error:
            failed = self._pod_of_driver(driver, within, parents, Phase.FAILED, str(error))
            return failed, Phase.FAILED
        driven = self._pod_of_driver(driver, within, parents)
        if made.state == "CANCELED":
            return self._add(full, [driven], Phase.SKIPPED), Phase.SKIPPED

        def body(node: Node, deadline: float | None) -> Phase:
            if "dag" in made.component:
                return self._dag(node, made)
            strategy = self._default.compiled(task.get("retryPolicy", {}))
            numbers = itertools.count()

            def pod(inner: Node, deadline: float | None) -> Phase:
                return self._run_pod(inner, made, task, next(numbers), deadline)

            return self._retried(f"{node.name}.executor", [node], strategy, pod)[1]

        return self._retried(full, [driven], self._default, body)

    def _loop(self, node: Node, name: str, execution: Execution) -> Phase:
        """K: v2/compiler/argocompiler/dag.go iteratorTask: a DAG of its own for each item."""
        task: Json = execution.component["dag"]["tasks"][name]
        try:
            loop = self._driver.start(name, execution)
        except DriverError as error:
            self._pod_of_driver("iteration-driver", node, [node], Phase.FAILED, str(error))
            return Phase.FAILED
        driven = self._pod_of_driver("iteration-driver", node, [node])
        group = self._add(f"{node.name}.iteration-iterations", [driven])
        limit = int(task.get("iteratorPolicy", {}).get("parallelismLimit", 0)) or len(loop.items)
        slots, phases = threading.Semaphore(max(1, limit)), [Phase.SUCCEEDED] * len(loop.items)

        def iterate(index: int) -> None:
            def body(outer: Node, deadline: float | None) -> Phase:
                made = self._driver.iteration(loop, index)
                inner = self._pod_of_driver("iteration-item-driver", outer, [outer])
                return self._retried(
                    f"{outer.name}.iteration-item",
                    [inner],
                    self._default,
                    lambda one, _: self._dag(one, made),
                )[1]

            with slots:
                title = f"{group.name}({index}:{index})"
                phases[index] = self._retried(title, [group], self._default, body)[1]

        _all(iterate, range(len(loop.items)))
        phase = worst(phases)
        self.mark(group, phase)
        return phase


T = TypeVar("T")


def _all(work: Callable[[T], None], items: Iterable[T]) -> None:
    """Do some work for all items at once, and wait for it."""
    threads = [threading.Thread(target=work, args=(one,), daemon=True) for one in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _is_exit(task: Json) -> bool:
    return bool(task.get("triggerPolicy", {}).get("strategy") == EXIT)


def _needs(task: Json) -> set[str]:
    """K: v2/compiler/argocompiler/dag.go addImplicitDependencies."""
    inputs = task.get("inputs", {})
    sources = [*inputs.get("parameters", {}).values(), *inputs.get("artifacts", {}).values()]
    producers = {
        one[kind]["producerTask"]
        for one in sources
        for kind in ("taskOutputParameter", "taskOutputArtifact")
        if kind in one
    }
    return producers | set(task.get("dependentTasks", ()))
