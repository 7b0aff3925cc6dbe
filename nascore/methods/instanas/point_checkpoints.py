"""The points of a search as files: a checkpoint each, and a list with the chosen one."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nascore import checkpoint
from nascore.errors import InputError
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.routed_network import Routed, rebuild
from nascore.methods.instanas.search_points import Chosen, Point
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.space import MobileSpace

POINTS = "points.json"
_KIND = "instanas-point"


def point_path(folder: Path, point: Point) -> Path:
    return folder / f"point-{point.name}.ckpt"


def save_point(path: Path, network: Routed, point: Point) -> None:
    """Write a point with the weights of its controller and meta-graph, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    checkpoint.save(path, weights, {"blueprint": network.blueprint(), **point.to_dict()}, _KIND)


def load_point(folder: Path, point: Point, space: MobileSpace, shape: ImageShape) -> Routed:
    """Return the network of a point, on the CPU.

    Raises:
        CheckpointError: its weights are damaged or missing.
    """
    tensors, meta = checkpoint.load(point_path(folder, point), _KIND)
    network = rebuild(meta["blueprint"], space, shape)
    network.load_state_dict(tensors)
    return network


def export_points(
    state: Path, weights: Path, found: Sequence[Point], chosen: Chosen, table: LatencyTable
) -> None:
    """Copy all points of `state` to the folder `weights`, with a list that has the chosen one."""
    weights.mkdir(parents=True, exist_ok=True)
    for point in found:
        shutil.copyfile(point_path(state, point), point_path(weights, point))
    described = {
        "version": 1,
        "unit": table.unit,
        "points": [point.to_dict() for point in found],
        "chosen": chosen.point.number,
        "rule": chosen.rule,
        "table": {
            "baseline": table.baseline + table.fixed,
            "least": table.reachable[0],
            "most": table.reachable[1],
            "controller": table.controller,
            "fixed": table.fixed,
        },
    }
    (weights / POINTS).write_text(json.dumps(described, indent=2))


@dataclass(frozen=True, slots=True)
class SelectedPoint:
    """The points that `export_points` has written.

    Attributes:
        described: the list of points.
    """

    folder: Path
    chosen: Point
    described: dict[str, Any]

    @classmethod
    def read(cls, folder: Path | None) -> "SelectedPoint":
        """Read a folder.

        Raises:
            InputError: there are no points in it.
        """
        if folder is None or not (folder / POINTS).exists():
            message = "contains no points of a search; run the step search again"
            raise InputError.of("weights", folder, message)
        described = json.loads((folder / POINTS).read_text())
        chosen = Point.from_dict(described["points"][described["chosen"]])
        return cls(folder, chosen, described)
