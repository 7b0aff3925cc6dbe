"""Section of the report on a few-shot network: its tests, its cell and the stages of the search."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from numpy.typing import NDArray

from nascore.figures.templates import make_environment
from nascore.meta_learning.options import BASELINE

DETAILS = "auto_meta"
"""Key of this section's figures in `nascore.training.final_model.FinalModel.details`."""


def section(
    details: Mapping[str, Any],
    latency: Mapping[str, Any] | None,
    images: Mapping[int, NDArray[Any]],
) -> Markup:
    """Return the section; the details are those of `final_comparison`.

    Args:
        details: of the final training.
        latency: measured times, if any.
        images: not used.
    """
    environment = make_environment(
        __package__,
        interval=_interval,
    )
    return Markup(  # the template escapes
        environment.get_template("report.html.j2").render(
            details=details,
            verdict=_verdict(details["tests"]),
            learned=_learned,
            networks=_timed((latency or {}).get("few_shot")),
        )
    )


def places(details: Mapping[str, Any]) -> list[int]:
    """Return no places: no images are shown."""
    return []


def _interval(score: Mapping[str, Any]) -> str:
    """Return mean and half of the 95 % interval, in per cent."""
    return f"{100 * score['mean']:.1f} ± {100 * score['interval']:.1f}%"


def _learned(inner: Mapping[str, Any]) -> str:
    """Return how a task is learned, as text."""
    steps = "one step" if inner["num_steps"] == 1 else f"{inner['num_steps']} steps"
    return f"{steps} of {inner['optimiser']} at a rate of {inner['learning_rate']:g}"


def _timed(measured: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """Return display name and times of the networks that were measured."""
    if measured is None:
        return []
    other = measured.get(BASELINE)
    return [("Searched cell", measured), *([] if other is None else [("Conv-4", other)])]


def _verdict(tests: list[Mapping[str, Any]]) -> str:
    """Return how winner and baseline compare, by the intervals of the differences."""
    signs = {
        "better" if test["difference"]["mean"] > 0 else "worse"
        for test in tests
        if abs(test["difference"]["mean"]) > test["difference"]["interval"]
    }
    if not signs:
        return "not different from"
    return (
        f"{signs.pop()} than" if len(signs) == 1 else "better in one test and worse in another than"
    )
