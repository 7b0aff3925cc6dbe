"""Plots of any data: what is drawn where, and the text alternatives."""

import itertools
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from nascore.figures.chart import Chart
from nascore.figures.plots import (
    Line,
    Mark,
    areas,
    confusion_matrix,
    cost_accuracy,
    lines,
    scatter,
)


def places(chart: Chart, kind: str) -> list[tuple[float, float]]:
    """Return the places of the markers of a class."""
    root = ElementTree.fromstring(chart.inline())
    groups = (one for one in root.iter("g") if one.get("class") == kind)
    marks = itertools.chain.from_iterable(group.iter("use") for group in groups)
    return [(float(mark.attrib["x"]), float(mark.attrib["y"])) for mark in marks]


def texts(chart: Chart) -> Iterator[str]:
    return (one.text or "" for one in ElementTree.fromstring(chart.inline()).iter("text"))


def test_a_scatter_draws_every_pair_and_the_medians() -> None:
    pairs = [(1, 2.0), (1, 4.0), (1, 3.0), (3, 8.0)]
    drawn = scatter(pairs, colour="method", x_label="x", y_label="y")
    assert "the median goes from 3 at 1 to 8 at 3" in drawn.text
    dots = places(drawn, "pairs")
    assert len(dots) == 4
    xs, ys = [x for x, _ in dots], [y for _, y in dots]
    assert max(xs) - min(xs) > 300
    assert min(ys) == ys[3], "up is less in SVG"
    assert len({round(x) for x in xs[:3]}) == 3, "dots at one distance are shifted"


def test_a_line_rises_where_its_values_do_and_is_described() -> None:
    line = Line("a", "method", [(0, 0.0), (1, 1.0)], has_dots=True)
    drawn = lines([line], x_label="position", y_label="accuracy")
    (_, first), (_, last) = places(drawn, "dots a")
    assert first > last, "up is less in SVG"
    assert "a: 0 at first, 1 at last" in drawn.text
    assert "accuracy, over position" in texts(drawn)
    assert "a, 1: 1" in drawn.inline()


def test_a_flat_line_and_a_single_point_can_be_drawn_and_nothing_cannot() -> None:
    for points in ([(0, 0.0), (1, 0.0)], [(3, 5.0)], [(0, -2.0), (9, -2.0)]):
        drawn = lines([Line("a", "method", points)], x_label="x", y_label="y").inline()
        assert "nan" not in drawn.lower()
    with pytest.raises(ValueError, match="nothing to draw"):
        lines([Line("a", "method", [])], x_label="x", y_label="y")


def test_values_are_inside_the_frame() -> None:
    points = [(float(i), float(i**3)) for i in range(40)]
    drawn = lines([Line("a", "method", points, has_dots=True)], x_label="x", y_label="y")
    assert all(0 < x < 720 and 0 < y < 372 for x, y in places(drawn, "dots a"))


def test_areas_are_labelled_where_there_is_room() -> None:
    drawn = areas([0, 1], {"3": [0.5, 0.97], "5": [0.5, 0.03]}, x_suffix="spent", title="Height")
    assert drawn.text == "Height: 3 97%, 5 3%"
    shown = list(texts(drawn))
    assert "3 97%" in shown
    assert "5 3%" not in shown
    assert "100% spent" in shown


def test_the_most_accurate_network_is_highest_and_the_slowest_is_rightmost() -> None:
    marks = [
        Mark("A", 3.0, 0.93, "point"),
        Mark("B", 2.0, 0.8, "point chosen"),
        Mark("reference", 4.0, 0.95, "point reference", is_labelled=False),
    ]
    drawn = cost_accuracy(marks, baseline=4.0, baseline_name="MobileNetV2", unit="ms")
    assert "A 93.00% at 3 ms, B 80.00% at 2 ms" in drawn.text
    shown = list(texts(drawn))
    assert {"A", "B", "MobileNetV2", "mean latency, ms"} <= set(shown)
    assert "reference" not in shown
    root = ElementTree.fromstring(drawn.inline())
    kinds = [one.get("class") for one in root.iter("g")]
    assert all(kinds.count(mark.kind) == 1 for mark in marks)


def test_a_confusion_matrix_has_a_cell_and_a_count_for_each_pair_that_occurs() -> None:
    drawn = confusion_matrix(["a" * 30, "b\x01", "$x$"], [[9, 1, 0], [0, 4, 0], [0, 0, 0]])
    root = ElementTree.fromstring(drawn.inline())
    assert [one.get("class") for one in root.iter("g")].count("cell") == 3
    shown = list(texts(drawn))
    assert {"9", "1", "4", "a" * 17 + "…", "b�", "$x$"} <= set(shown)
    assert "0" not in shown
    fills = [one.attrib["style"] for one in root.iter("path") if "var(--method)" in str(one.attrib)]
    assert "fill-opacity: 0.9" in fills[0]
    assert "fill-opacity: 0.1" in fills[1]


def test_counts_are_left_out_where_cells_are_small() -> None:
    names = [str(place) for place in range(100, 125)]
    identity = [[7 * (i == j) for j in range(25)] for i in range(25)]
    assert "7" not in texts(confusion_matrix(names, identity))
