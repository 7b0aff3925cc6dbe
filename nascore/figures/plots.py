"""Plots of any data: lines, pairs, areas, cost against accuracy, confusion matrices."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from nascore.figures import formatting
from nascore.figures.chart import PALETTE, WIDTH, Chart, figure_of, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Points = Sequence[tuple[float, float]]

_JITTER = 0.3
"""Largest shift to each side of dots whose x is a whole number."""
_MAX_NUMBERED = 20
"""Classes of a confusion matrix up to which the counts fit into the cells."""
_MAX_LABEL = 18
"""Characters of a class name on an axis."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot, which bridges missing values.

    Attributes:
        name: label in the text alternative and in tooltips.
        colour: name of a colour in `PALETTE`.
        dashes: lengths of dashes and gaps, as in matplotlib; None for a solid line.
        has_dots: marks each point, with a tooltip.
    """

    name: str
    colour: str
    points: Points
    dashes: tuple[float, ...] | None = None
    has_dots: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A network in a plot of cost against accuracy, filled, hollow or dotted."""

    name: str
    cost: float
    accuracy: float
    kind: str
    is_labelled: bool = True


_MARK_LOOKS: Mapping[str, dict[str, Any]] = {
    "point": {"facecolor": PALETTE["card"], "edgecolor": PALETTE["method"], "s": 80},
    "point chosen": {"facecolor": PALETTE["method"], "edgecolor": PALETTE["method"], "s": 150},
    "point final": {
        "facecolor": PALETTE["card"],
        "edgecolor": PALETTE["method"],
        "s": 80,
        "linestyle": (0, (1, 1)),
    },
    "point reference": {"facecolor": PALETTE["control"], "edgecolor": PALETTE["control"], "s": 80},
}


def set_ticks(axis: "Axis", count: int, label: Callable[[float], str]) -> None:
    """Set about `count` ticks at round values, with their labels."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))


def lines(
    series: Sequence[Line], *, x_label: str, y_label: str, starts_at_zero: bool = True
) -> Chart:
    """Return lines over a whole number, such as a position or the number of an update.

    Args:
        series: the lines; the first one is drawn on top.
        starts_at_zero: whether zero is part of the vertical axis.

    Raises:
        ValueError: There is no point.
    """
    points = [point for line in series for point in line.points]
    if not points:
        raise ValueError("there is nothing to draw")
    axes = make_axes(372, left=80)
    for line in reversed(series):
        draw_line(axes, line)
    ys = [y for _, y in points]
    _set_limits(axes, [x for x, _ in points], [0.0, *ys] if starts_at_zero else ys)
    _label_axes(axes, x_label, y_label)
    ends = "; ".join(
        f"{line.name}: {line.points[0][1]:.3g} at first, {line.points[-1][1]:.3g} at last"
        for line in series
        if line.points
    )
    tooltips = {
        f"dots {line.name}": [f"{line.name}, {x:g}: {y:.3g}" for x, y in line.points]
        for line in series
        if line.has_dots
    }
    return Chart(figure_of(axes), "lines", f"{y_label} over {x_label}. {ends}.", tooltips)


def draw_line(axes: "Axes", line: Line, *, width: float = 2.5) -> None:
    """Draw a line of a width in points, and its dots where it has them."""
    x, y = [x for x, _ in line.points], [y for _, y in line.points]
    style = "-" if line.dashes is None else (0, line.dashes)
    look: dict[str, Any] = {"color": PALETTE[line.colour], "clip_on": False}
    look |= {"linewidth": width, "linestyle": style, "gid": f"line {line.name}"}
    axes.plot(x, y, **look)
    if line.has_dots:
        dots: dict[str, Any] = {"markersize": 7, "markeredgewidth": 0, "alpha": 0.55}
        gid = f"dots {line.name}"
        axes.plot(x, y, "o", color=PALETTE[line.colour], clip_on=False, gid=gid, **dots)


def scatter(pairs: Points, *, colour: str, x_label: str, y_label: str) -> Chart:
    """Return pairs of values as dots, and the median of the second for each first one.

    Dots are shifted sideways at random, since many pairs have the same whole number as x.
    """
    shifts = np.random.default_rng(0).uniform(-_JITTER, _JITTER, len(pairs))
    axes = make_axes(372, left=80)
    x = [x + shift for (x, _), shift in zip(pairs, shifts, strict=True)]
    y = [y for _, y in pairs]
    look: dict[str, Any] = {"markersize": 5, "markeredgewidth": 0, "alpha": 0.3}
    axes.plot(x, y, "o", color=PALETTE[colour], clip_on=False, gid="pairs", **look)
    medians = _medians(pairs)
    draw_line(axes, Line("median", "ink", medians))
    _set_limits(axes, [x for x, _ in pairs], [0.0, *y], pad_x=0.6)
    _label_axes(axes, x_label, y_label)
    low, high = medians[0], medians[-1]
    text = (
        f"{y_label} over {x_label} of {len(pairs)} pairs of architectures; the median goes from "
        f"{low[1]:.3g} at {low[0]:g} to {high[1]:.3g} at {high[0]:g}."
    )
    return Chart(figure_of(axes), "scatter", text)


def _medians(pairs: Points) -> Points:
    groups: dict[float, list[float]] = defaultdict(list)
    for x, y in pairs:
        groups[x].append(y)
    return [(x, median(groups[x])) for x in sorted(groups)]


def _set_limits(
    axes: "Axes", xs: Sequence[float], ys: Sequence[float], *, pad_x: float = 0.0
) -> None:
    """Set limits with room for all values and a margin; none below a lowest value of zero."""
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    pad_x = pad_x or 0.02 * (x_high - x_low) or 0.5
    pad_y = 0.06 * (y_high - y_low) or 0.06 * abs(y_high) or 0.5
    axes.set_xlim(x_low - pad_x, x_high + pad_x)
    axes.set_ylim(y_low if y_low == 0 else y_low - pad_y, y_high + pad_y)


def _label_axes(axes: "Axes", x_label: str, y_label: str) -> None:
    set_ticks(axes.yaxis, 6, lambda value: f"{value:.6g}")
    set_ticks(axes.xaxis, 7, lambda value: f"{value:.0f}" if value == int(value) else "")
    axes.set_xlabel(f"{y_label}, over {x_label}", fontsize=11, color=PALETTE["ink"], labelpad=12)


def areas(
    x: Sequence[float], shares: Mapping[str, Sequence[float]], *, x_suffix: str, title: str
) -> Chart:
    """Return shares that add up to one as stacked areas, labelled at their right end.

    Args:
        x: fractions from 0 to 1.
        shares: fractions by name, as many as `x`.
        x_suffix: text after the last label of the horizontal axis.
        title: subject of the text alternative.
    """
    axes = make_fraction_axes(182, x_suffix, right=110)
    shades = np.linspace(0.9, 0.15, len(shares))
    stack = axes.stackplot(x, *shares.values(), colors=[PALETTE["method"]], clip_on=False)
    bottom = 0.0
    for area, shade, (name, values) in zip(stack, shades, shares.items(), strict=True):
        area.set(alpha=shade, edgecolor=PALETTE["card"], gid="area")
        if values[-1] > 0.04:
            label, middle = f"{name} {formatting.percent(values[-1], 0)}", bottom + values[-1] / 2
            axes.text(1.015, middle, label, va="center", fontsize=11, color=PALETTE["ink"])
        bottom += values[-1]
    ends = (f"{name} {formatting.percent(values[-1], 0)}" for name, values in shares.items())
    return Chart(figure_of(axes), "areas", f"{title}: {', '.join(ends)}")


def make_fraction_axes(height: float, x_suffix: str, *, right: float = 16) -> "Axes":
    """Return axes on which both values are fractions from 0 to 1, labelled in percent."""
    axes = make_axes(height, right=right, bottom=32)
    axes.spines["bottom"].set_visible(False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    steps = (0, 0.25, 0.5, 0.75, 1)
    labels = [formatting.percent(step, 0) for step in steps]
    axes.set_xticks(steps, [*labels[:-1], f"{labels[-1]} {x_suffix}"])
    axes.set_yticks((0, 0.5, 1), ["0%", "50%", "100%"])
    return axes


def cost_accuracy(
    marks: Sequence[Mark], *, baseline: float, baseline_name: str, unit: str
) -> Chart:
    """Return the accuracy of networks over their latency, with a line at that of a baseline.

    Args:
        marks: the networks; `kind` is "point", "point chosen", "point final" or "point reference".
        baseline: latency in `unit`.
        baseline_name: label of the line.
        unit: of all latencies.
    """
    axes = make_axes(268, top=16, bottom=48)
    low, high = min(mark.accuracy for mark in marks), max(mark.accuracy for mark in marks)
    room = max(0.01, 0.15 * (high - low))
    largest = 1.1 * max(baseline, *(mark.cost for mark in marks))
    axes.set(xlim=(0, largest), ylim=(low - room, high + room))
    set_ticks(axes.yaxis, 4, lambda value: formatting.percent(value, 1))
    set_ticks(axes.xaxis, 6, lambda value: f"{value:g}")
    axes.set_xlabel(f"mean latency, {unit}", loc="right", fontsize=11, color=PALETTE["muted"])
    axes.axvline(
        baseline, color=PALETTE["control"], linestyle=(0, (5, 4)), linewidth=1, clip_on=False
    )
    look: dict[str, Any] = {"fontsize": 11, "color": PALETTE["muted"]}
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(baseline_name, (baseline, 1), (-6, -12), ha="right", **place, **look)
    for mark in marks:
        point, kind = (mark.cost, mark.accuracy), _MARK_LOOKS[mark.kind]
        axes.scatter(*point, linewidth=2, clip_on=False, zorder=3, gid=mark.kind, **kind)
        if mark.is_labelled:
            above: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
            axes.annotate(mark.name, point, (0, 10), **above, **look)
    described = ", ".join(
        f"{mark.name} {formatting.percent(mark.accuracy)} at {mark.cost:.4g} {unit}"
        for mark in marks
    )
    return Chart(figure_of(axes), "front", f"Accuracy and latency: {described}")


def confusion_matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """Return a confusion matrix, darker for a larger share of the true class.

    Args:
        names: classes.
        counts: images by true class (row) and predicted class (column).
    """
    labels, size = [_short(name) for name in names], len(names)
    longest = max(map(len, labels))
    left, top = max(80, 36 + 7.5 * longest), 42 + 6 * longest
    side = min(44.0, (WIDTH - left - 20) / size)
    height, right = top + side * size + 10, WIDTH - left - side * size
    axes = make_axes(height, left=left, right=right, top=top, bottom=10)
    rows = np.asarray(counts)
    shares = rows / np.maximum(1, rows.sum(axis=1, keepdims=True))
    axes.set(xlim=(0, size), ylim=(size, 0))
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    edges: dict[str, Any] = {"colors": PALETTE["overhead"], "linewidth": 0.5, "clip_on": False}
    axes.hlines(range(size + 1), 0, size, **edges)
    axes.vlines(range(size + 1), 0, size, **edges)
    for i, j in np.argwhere(rows):
        axes.add_patch(_cell(i, j, float(shares[i, j])))
        if size <= _MAX_NUMBERED:
            colour = PALETTE["card" if shares[i, j] > 0.65 else "ink"]
            text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11}
            axes.text(j + 0.5, i + 0.5, str(rows[i, j]), color=colour, **text)
    places = np.arange(size) + 0.5
    axes.set_yticks(places, labels)
    axes.xaxis.tick_top()
    turned: dict[str, Any] = {"rotation": 60, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(places, labels, **turned)
    figure = figure_of(axes)
    for label, x, y in (("predicted class", left, 12), ("true class", 4, top - 8)):
        figure.text(x / WIDTH, 1 - y / height, label, fontsize=12, color=PALETTE["ink"])
    text_alternative = f"Confusion matrix of {size} classes: rows are true, columns are predicted"
    return Chart(figure, "confusion", text_alternative)


def _cell(row: int, column: int, share: float) -> Any:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    fill = to_rgba(PALETTE["method"], share)
    return Rectangle((column, row), 1, 1, facecolor=fill, clip_on=False, gid="cell")


def _short(name: str) -> str:
    """Return a class name as it fits an axis, without characters that XML does not allow."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return shown if len(shown) <= _MAX_LABEL else shown[: _MAX_LABEL - 1] + "…"
