"""Checks that some node can run the pods of the steps and of Kubeflow's drivers."""

from collections.abc import Iterator

from pipelines.kubeflow.doctor.findings import ClusterFinding, Reporter, set_steps
from pipelines.kubeflow.doctor.nodes import (
    ARCH,
    ARCHITECTURE,
    NODES,
    TAINTS,
    architecture_of,
    may_grow,
    untolerated,
    usable_nodes,
)
from pipelines.kubeflow.doctor.obstacles import Obstacle, obstacle_of
from pipelines.kubeflow.doctor.pods import demand_of_step
from pipelines.kubeflow.doctor.target import Target


def check_nodes(target: Target) -> Iterator[ClusterFinding]:
    """Check that some node can run the pod of each step."""
    nodes = target.kube.items(NODES)
    groups: dict[Obstacle | None, list[str]] = {}
    for step in target.demand.steps:
        obstacle = obstacle_of(step, demand_of_step(target, step).requests, nodes)
        groups.setdefault(obstacle, []).append(step.name)
    grows = may_grow(target.kube, nodes)
    for each, steps in groups.items():
        yield _finding(target, each, steps, grows=grows)


def _finding(
    target: Target, obstacle: Obstacle | None, steps: list[str], *, grows: bool
) -> ClusterFinding:
    if obstacle is None:
        report = Reporter("nodes", target.kube.kubectl("get", "nodes"))
        return report.ok(f"for {', '.join(steps)}")
    report = Reporter("nodes", target.kube.kubectl(*obstacle.command))
    seen = f"no node can take {', '.join(steps)}: {obstacle.seen}"
    advice = obstacle.advice
    if obstacle.setting:
        advice = f"{set_steps(steps, obstacle.setting)}; or {advice}"
    if grows:  # new nodes may have what the present ones lack
        advice = f"right only where new nodes, made when pods wait, would do; else {advice}"
        return report.warning(seen, advice)
    return report.problem(seen, advice)


def check_driver_nodes(target: Target) -> Iterator[ClusterFinding]:
    """Check that there is a node without taints: the pods of Kubeflow's drivers tolerate none."""
    report = Reporter("driver-nodes", target.kube.kubectl(*TAINTS))
    nodes = usable_nodes(target.kube)
    free = [node for node in nodes if not untolerated(node, ())]
    if free:
        yield report.ok(f"{len(free)} of {len(nodes)} nodes have no taint that keeps drivers out")
        return
    seen = f"none of {len(nodes)} nodes takes Kubeflow's driver pods, which tolerate no taints"
    advice = (
        "keep a small node without taints: a driver runs before each step, and takes neither "
        "cluster.tolerations nor cluster.node_selector"
    )
    is_growing = may_grow(target.kube, nodes)
    yield report.warning(seen, advice) if is_growing else report.problem(seen, advice)


def check_architecture(target: Target) -> Iterator[ClusterFinding]:
    """Check that steps cannot be placed on nodes that cannot run their image."""
    report = Reporter("architecture", target.kube.kubectl("get", "nodes", "-L", ARCH))
    others = {architecture_of(node) for node in usable_nodes(target.kube)} - {ARCHITECTURE}
    if not others or all(ARCH in step.node_selector for step in target.demand.steps):
        yield report.ok(f"steps run on {ARCHITECTURE}")
        return
    seen = f"there are nodes of {', '.join(sorted(others))}; the image is built for {ARCHITECTURE}"
    yield report.warning(seen, f"--set 'cluster.node_selector={{{ARCH}: {ARCHITECTURE}}}'")
