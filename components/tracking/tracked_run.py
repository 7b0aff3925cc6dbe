"""A run as steps write to it: each call appends an event to the spool and returns at once."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nascore.redaction import redact

if TYPE_CHECKING:
    from components.tracking.spool import Tracker


class TrackedRun:
    """One run; every call appends an event and returns at once."""

    def __init__(self, tracker: "Tracker", key: str) -> None:
        self._tracker = tracker
        self.key = key

    def params(self, values: Mapping[str, Any]) -> None:
        """Log settings without secrets, flattened with dots; values become JSON."""
        flat = {name: redact(text_of(value)) for name, value in flatten(values)}
        self._tracker.append(self.key, "params", values=flat)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step; NaN is kept.

        MLflow would store infinity as 1.8e308, so it is left out and recorded in a tag
        `nas.infinite.<name>`.
        """
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in numbers.items() if not math.isinf(value)}
        if finite:
            self._tracker.append(self.key, "metrics", values=finite, step=int(step))
        if len(finite) < len(numbers):
            left_out = {name: numbers[name] for name in numbers if name not in finite}
            self.tags({f"nas.infinite.{k}": f"{v} at step {step}" for k, v in left_out.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; their values are written without secrets."""
        shown = {name: redact(str(value)) for name, value in values.items()}
        self._tracker.append(self.key, "tags", values=shown)

    def artifact(self, path: Path, folder: str = "", *, name: str | None = None) -> None:
        """Log a file or a folder as it is now: a copy goes into the spool.

        Args:
            path: the file or folder.
            folder: of the run's artifacts; empty for the topmost.
            name: of the artifact, by whose ending the UI shows it; that of the file by default.
        """
        kept = self._tracker.keep(path, name)
        self._tracker.append(self.key, "artifact", path=kept, folder=folder)

    def table(self, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log rows as a table that `mlflow.load_table` reads; a missing or NaN cell is null."""
        columns = list(dict.fromkeys(column for row in rows for column in row))
        data = [[_cell(row.get(column)) for column in columns] for row in rows]
        path = self._tracker.keep_text(json.dumps({"columns": columns, "data": data}), name)
        self._tracker.append(self.key, "table", path=path)

    def inputs(self, datasets: Sequence[Mapping[str, Any]]) -> None:
        """Log dataset inputs; `components.tracking.datasets` makes them."""
        self._tracker.append(self.key, "inputs", datasets=[dict(one) for one in datasets])

    def model_metrics(
        self, values: Mapping[str, float], *, model: str, dataset: Mapping[str, Any] | None = None
    ) -> None:
        """Log final metrics of a registered model, linked to the model and to a dataset input.

        Args:
            values: finite metrics by name.
            model: `models:/NAME/VERSION`.
            dataset: input on which they were measured; None for metrics such as a latency.
        """
        numbers = {name: float(value) for name, value in values.items()}
        measured_on = None if dataset is None else {k: dataset[k] for k in ("name", "digest")}
        self._tracker.append(
            self.key, "model_metrics", values=numbers, model=model, dataset=measured_on
        )

    def end(self, status: Literal["FINISHED", "FAILED"] = "FINISHED") -> None:
        """End the run, unless it was adopted; declaring it again opens it again."""
        self._tracker.append(self.key, "end", status=status)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _cell(value: Any) -> Any:
    """Return a value that JSON has, which knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
