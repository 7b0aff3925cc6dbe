"""Charts of a run: search curve, interval of the verdict, seconds of steps."""

import itertools
import re
from xml.etree import ElementTree

import children
import numpy as np
import pytest

from nascore.figures.chart import Chart
from nascore.figures.run_charts import (
    MAX_DOTS,
    StepCost,
    best_so_far,
    interval,
    search_curve,
    step_bars,
)
from nascore.genotype import Genotype
from nascore.results import Arm, Child


def make_child(number: int, accuracy: float | None) -> Child:
    genotype = Genotype("chain-1x4-v8", (number % 8, number // 8 % 8, number // 64 % 8, 0))
    failure = "the loss is not finite" if accuracy is None else ""
    return children.make_child(number, genotype, accuracy, failure=failure)


def make_arm(method: str, accuracies: list[float | None]) -> Arm:
    made = tuple(make_child(number, value) for number, value in enumerate(accuracies))
    return Arm(method, made, 60.0)


def no_line(child: Child) -> str:
    return ""


def groups(chart: Chart, kind: str) -> list[ElementTree.Element]:
    """Return the elements of a class."""
    root = ElementTree.fromstring(chart.inline())
    return [one for one in root.iter("g") if one.get("class") == kind]


def marks(chart: Chart, kind: str) -> list[ElementTree.Element]:
    """Return the markers of a class."""
    return list(itertools.chain.from_iterable(one.iter("use") for one in groups(chart, kind)))


def curve_of(chart: Chart, name: str) -> list[float]:
    """Return the heights that the line of an arm visits; smaller is higher on the page."""
    (line,) = groups(chart, f"best {name}")
    (path,) = line.iter("path")
    return [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path.attrib["d"])]


def test_best_so_far_never_falls() -> None:
    arm = make_arm("nases", [None, 0.5, 0.4, None, 0.9, 0.9, 0.1])
    assert best_so_far(arm.children) == [None, 0.5, 0.5, 0.5, 0.9, 0.9, 0.9]


def test_the_line_goes_through_the_best_so_far() -> None:
    arm = make_arm("nases", [None, 0.5, 0.4, 0.9, 0.7])
    drawn = search_curve(arm, make_arm("random", [0.6, 0.3]), no_line)
    heights = curve_of(drawn, "method")
    assert heights == sorted(heights, reverse=True)
    dots = [float(dot.attrib["y"]) for dot in marks(drawn, "dot method")]
    assert sorted(set(heights), reverse=True) == pytest.approx([dots[0], dots[2]], abs=0.06)
    assert len(set(curve_of(drawn, "control"))) == 1


def test_every_child_is_drawn_and_failures_are_marked() -> None:
    arm = make_arm("nases", [0.5, None, 0.6, 0.7, None])
    drawn = search_curve(arm, make_arm("random", [0.5, None]), no_line)
    kinds = ("dot method", "failed method", "dot control", "failed control")
    assert [len(marks(drawn, kind)) for kind in kinds] == [3, 2, 1, 1]
    failed = [mark.findtext("title") for mark in marks(drawn, "failed method")]
    assert failed[0] == "nases, child 2: failed, the loss is not finite"
    assert "5 children, 2 failed, best 70.00%" in drawn.text


def test_a_child_far_below_the_rest_is_shown_as_such() -> None:
    arm = make_arm("nases", [0.95, 0.96, 0.97, 0.1, 0.98, 0.96, 0.97, 0.95, 0.96, 0.98, 0.99])
    (below,) = marks(search_curve(arm, None, no_line), "below method")
    assert "child 4: 10.00%" in (below.findtext("title") or "")


@pytest.mark.parametrize("accuracies", [[], [None, None], [1.0], [0.0, 0.0]])
def test_degenerate_arms_are_drawn(accuracies: list[float | None]) -> None:
    drawn = search_curve(make_arm("nases", accuracies), make_arm("random", []), no_line)
    assert "nan" not in drawn.inline().lower()


def test_a_huge_search_stays_small_and_keeps_its_records() -> None:
    accuracies: list[float | None] = np.random.default_rng(0).random(20_000).tolist()
    drawn = search_curve(make_arm("nases", accuracies), None, no_line)
    best = int(np.argmax(accuracies)) + 1
    dots = [*marks(drawn, "dot method"), *marks(drawn, "below method")]
    assert MAX_DOTS / 2 < len(dots) <= MAX_DOTS + 40
    assert any(f"child {best}: " in (dot.findtext("title") or "") for dot in dots)


def test_the_interval_has_its_outcome_and_its_numbers() -> None:
    drawn = interval(0.01, -0.02, 0.04, margin=0.005, outcome="not better")
    assert len(groups(drawn, "interval not-better")) == 2
    assert "var(--bad)" in drawn.inline()
    assert "var(--soft)" in drawn.inline()
    assert "+1.00 percentage points, interval -2.00 to +4.00" in drawn.text
    assert "var(--soft)" not in interval(0.0, 0.0, 0.0, margin=None, outcome="better").inline()


def widths(chart: Chart, kind: str) -> list[float]:
    """Return the widths of bars."""
    found = []
    for bar in groups(chart, f"bar {kind}"):
        xs = re.findall(r"[ML] ([\d.]+) ", next(bar.iter("path")).attrib["d"])
        found.append(float(max(xs, key=float)) - float(min(xs, key=float)))
    return found


def test_bars_split_a_step_into_work_and_overhead() -> None:
    step = StepCost("search", 10.0, {"training": 6.0, "data": 1.0})
    assert step.overhead == pytest.approx(3.0)
    drawn = step_bars([step, StepCost("promote", 2.0, {"training": 1.0})])
    data, *_ = widths(drawn, "data")
    assert widths(drawn, "training") == pytest.approx([6 * data, data], abs=0.05)
    assert widths(drawn, "overhead") == pytest.approx([3 * data, data], abs=0.05)
    assert len(widths(step_bars([StepCost("search", 10.0, None)]), "total")) == 1
    tooltips = [bar.find("path/title") for bar in groups(drawn, "bar training")]
    assert [one.text for one in tooltips if one is not None] == [
        "search, training: 6.0 s",
        "promote, training: 1.0 s",
    ]
    assert step_bars([]).text == "Cost by step: ."
