"""Names of runs that say what a run does: `nases on flowers, 30 min`."""

import re

from components.config.schema import Config
from components.tracking.datasets import data_name
from nascore.config.search import BudgetConfig
from nascore.redaction import redact
from pipelines.definitions.kinds import Kind

_MAX_DATA_NAME = 40
_UNITS = {"children": ("child", "children"), "steps": ("step", "steps")}
_TIMES = ((86400, "d"), (3600, "h"), (60, "min"))


def name_of_run(kind: Kind, config: Config) -> str:
    """Return the name of a run: method or model, data set and budget.

    The data set is named by the last part of its address, without a query, which may hold the
    signature of a presigned URL.
    """
    what = config.method if kind == "search" else f"retrain {config.registry.model or ''}".strip()
    return f"{what} on {_data(config)}, {_budget(config.search.budget)}"


def _data(config: Config) -> str:
    name = re.sub(r"[^\w.-]+", "-", redact(data_name(config.data.source)))
    return name[:_MAX_DATA_NAME].strip("-.") or "data"


def _budget(budget: BudgetConfig) -> str:
    if budget.unit == "seconds":
        return _time(budget.amount)
    if budget.unit == "gpu_hours":
        return f"{budget.amount:g} GPU-{'hour' if budget.amount == 1 else 'hours'}"
    one, several = _UNITS[budget.unit]
    return f"{budget.amount:g} {one if budget.amount == 1 else several}"


def _time(seconds: float) -> str:
    for length, unit in _TIMES:
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
