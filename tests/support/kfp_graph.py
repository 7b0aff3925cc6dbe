"""The graph of a compiled pipeline as KFP's UI draws it (2.17, frontend/src/lib/v2/StaticFlow.ts).

Each group of tasks is a page. Tasks and their output artifacts are nodes, and so are the artifacts
that come from outside the group. Edges lead from a task to each output, from an artifact to each
task that reads it, and once from a task to each task that waits for it or reads a parameter of it.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes and edges of one page.

    Attributes:
        tasks: names that the page shows.
        artifacts: names of the artifacts.
    """

    tasks: tuple[str, ...]
    artifacts: tuple[str, ...]
    edges: frozenset[tuple[str, str]]


def pages(pipeline: dict[str, Any]) -> dict[str, Graph]:
    """Return the graph of each page by the name of its group; the first page is `root`."""
    components = {"root": pipeline["root"]} | pipeline["components"]
    return {
        name.removeprefix("comp-"): _page(component, pipeline["components"])
        for name, component in components.items()
        if "dag" in component
    }


def _page(group: dict[str, Any], components: dict[str, Any]) -> Graph:
    artifacts = [f".{name}" for name in group.get("inputDefinitions", {}).get("artifacts", {})]
    edges = set()
    for key, task in group["dag"]["tasks"].items():
        component = components[task["componentRef"]["name"]]
        for name in component.get("outputDefinitions", {}).get("artifacts", {}):
            artifacts.append(f"{key}.{name}")
            edges.add((key, f"{key}.{name}"))
        inputs = task.get("inputs", {})
        for source in inputs.get("artifacts", {}).values():
            made = source.get("taskOutputArtifact")
            place = (
                f"{made['producerTask']}.{made['outputArtifactKey']}"
                if made
                else f".{source['componentInputArtifact']}"
            )
            edges.add((place, key))
        for source in inputs.get("parameters", {}).values():
            if "taskOutputParameter" in source:
                edges.add((source["taskOutputParameter"]["producerTask"], key))
        # An artifact's producer is a dependent task, too; the page draws that edge.
        edges |= {(before, key) for before in task.get("dependentTasks", ())}
    names = (task["taskInfo"]["name"] for task in group["dag"]["tasks"].values())
    labels = (artifact.partition(".")[2] for artifact in artifacts)
    return Graph(tuple(names), tuple(labels), frozenset(edges))
