"""Cost of the steps and description of the data, as the page shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from nascore.figures import run_charts

_MAX_CLASSES = 30


def cost(
    step_seconds: Mapping[str, float] | None, step_busy: Mapping[str, Mapping[str, float]] | None
) -> dict[str, Any] | None:
    """Return the seconds of each step by kind of work; see `nascore.report.page.Report`."""
    if not step_seconds:
        return None
    steps = [
        run_charts.StepCost(name, seconds, (step_busy or {}).get(name))
        for name, seconds in step_seconds.items()
    ]
    known = [step.overhead for step in steps if step.overhead is not None]
    return {
        "chart": run_charts.step_bars(steps),
        "steps": steps,
        "total": sum(step.seconds for step in steps),
        "overhead": sum(known) if len(known) == len(steps) else None,
        "kinds": _kinds(steps),
    }


def _kinds(steps: Sequence[run_charts.StepCost]) -> list[str]:
    used = {kind for step in steps for kind, seconds in (step.busy or {}).items() if seconds > 0}
    kinds = [kind for kind in run_charts.BUSY if kind in used]
    if any(step.busy is not None for step in steps):
        kinds.append("overhead")
    if any(step.busy is None for step in steps):
        kinds.append("total")
    return kinds


def dataset(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the description of the data; `found` is `DatasetInfo.to_dict()`."""
    if found is None:
        return None
    names = [str(name) for name in found.get("classes") or ()]
    keys = ("source", "channels", "size", "num_images", "num_train", "num_valid", "num_test")
    more = ("data_sha256", "split_sha256", "seed", "mean", "std", "streamed")
    counts = found.get("class_counts") or {}
    own = found.get("class_splits") or {}
    return {
        **{key: found.get(key) for key in (*keys, *more)},
        "classes": names,
        "shown_classes": names[:_MAX_CLASSES],
        "counts": [
            {"name": name, **{split: counts[split][index] for split in counts}}
            for index, name in enumerate(names)
        ]
        if counts and len(names) <= 100
        else [],
        "splits": list(counts),
        "num_classes": {split: len(labels) for split, labels in own.items()},
    }
