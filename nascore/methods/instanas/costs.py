"""The latency table of a search: measured, given as a file, or a count of multiply-adds."""

import json
from pathlib import Path

from nascore.latency.table import OperationTable
from nascore.methods.instanas.controller import PolicyNetwork
from nascore.methods.instanas.cost_measurement import measure
from nascore.methods.instanas.cost_table import LatencyTable, from_operations, macs_table, read
from nascore.methods.instanas.export import folded
from nascore.methods.instanas.networks import Context
from nascore.methods.instanas.supernet import MetaGraph

FILE = "latency_table.json"
KEY = "search.options.table"


def make_table(context: Context, graph: MetaGraph, controller: PolicyNetwork) -> LatencyTable:
    """Return the table of a new search; one that is measured here is saved in `context.state`.

    Networks are measured as they are deployed, with batch normalisation folded.

    Raises:
        InputError: the table file is of another machine or network.
    """
    given = context.options.table
    if given == "macs":
        return macs_table(graph, controller)
    graph, controller = folded(graph), folded(controller)
    if given != "measure":
        return read(Path(given), graph, context.latency, controller=controller, key=KEY)
    path = context.state / FILE
    if not path.exists():
        table, _ = measure(graph, context.latency, controller=controller)
        table.save(path)
    return _table_at(path, graph, controller)


def load_table(context: Context, graph: MetaGraph, controller: PolicyNetwork) -> LatencyTable:
    """Return the table of `make_table` in a later step, which may run on another machine."""
    given = context.options.table
    if given == "macs":
        return macs_table(graph, controller)
    path = context.controller / FILE if given == "measure" else Path(given)
    return _table_at(path, folded(graph), folded(controller))


def _table_at(path: Path, graph: MetaGraph, controller: PolicyNetwork) -> LatencyTable:
    return from_operations(
        graph, OperationTable.from_dict(json.loads(path.read_text())), controller
    )
