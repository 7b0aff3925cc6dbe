"""The figures of a diagnosis, as inline SVG in the style of `nascore.figures.charts`."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from nascore.figures.svg import WIDTH, Plot, chart, element, ticks

Points = Sequence[tuple[float, float]]

_HEIGHT = 372
_JITTER = 0.3  # to each side, of the distance between two whole numbers


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart; gaps where a value is missing are bridged.

    Attributes:
        kind: its look: `method`, `control` or `chance`.
        has_dots: mark each point; for few of them.
    """

    name: str
    kind: str
    points: Points
    has_dots: bool = False


def scatter(pairs: Points, *, kind: str, x_label: str, y_label: str) -> str:
    """Pairs of architectures, the first distance a whole number; and the median of the second.

    Dots are moved sideways a little, since many pairs have the same distance.
    """
    shifts = np.random.default_rng(0).uniform(-_JITTER, _JITTER, len(pairs))
    plot = _plot([pair[0] for pair in pairs], [0.0, *(pair[1] for pair in pairs)], pad_x=0.6)
    body = [*_frame(plot, x_label, y_label)]
    for (x, y), shift in zip(pairs, shifts, strict=True):
        body.append(
            element(
                "circle",
                class_=f"pair-dot {kind}",
                cx=plot.at_x(x + float(shift)),
                cy=plot.at_y(y),
                r=2.5,
            )
        )
    medians = _medians(pairs)
    body.append(_path(plot, Line("median", "median", medians)))
    low, high = medians[0], medians[-1]
    text = (
        f"{y_label} over {x_label} of {len(pairs)} pairs of architectures; the median goes from "
        f"{low[1]:.3g} at {low[0]:g} to {high[1]:.3g} at {high[0]:g}."
    )
    return chart("scatter", _HEIGHT, text, body)


def lines(series: Sequence[Line], *, x_label: str, y_label: str, from_zero: bool = True) -> str:
    """Lines over a whole number, such as a position or the number of an update.

    Raises:
        ValueError: there is no point at all.
    """
    points = [point for line in series for point in line.points]
    if not points:
        raise ValueError("there is nothing to draw")
    ys = [y for _, y in points]
    plot = _plot([x for x, _ in points], [0.0, *ys] if from_zero else ys)
    body = [*_frame(plot, x_label, y_label)]
    for line in reversed(series):  # the first is the one that is seen where two meet
        if line.points:
            body.append(_path(plot, line))
        if line.has_dots:
            body += _dots(plot, line)
    ends = "; ".join(
        f"{line.name}: {line.points[0][1]:.3g} at first, {line.points[-1][1]:.3g} at last"
        for line in series
        if line.points
    )
    return chart("lines", _HEIGHT, f"{y_label} over {x_label}. {ends}.", body)


def _medians(pairs: Points) -> Points:
    groups: dict[float, list[float]] = defaultdict(list)
    for x, y in pairs:
        groups[x].append(y)
    return [(x, median(groups[x])) for x in sorted(groups)]


def _plot(xs: Sequence[float], ys: Sequence[float], *, pad_x: float = 0.0) -> Plot:
    """Room for all values, and for a little more."""
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    pad_x = pad_x or 0.02 * (x_high - x_low) or 0.5
    pad_y = 0.06 * (y_high - y_low) or 0.06 * abs(y_high) or 0.5
    return Plot(
        left=80,
        top=14,
        right=WIDTH - 16,
        bottom=_HEIGHT - 54,
        x=(x_low - pad_x, x_high + pad_x),
        y=(y_low if y_low == 0 else y_low - pad_y, y_high + pad_y),
    )


def _frame(plot: Plot, x_label: str, y_label: str) -> Iterator[str]:
    """Grid, numbers, and one line that says what is drawn over what."""
    for value in ticks(*plot.y, 6):
        y = plot.at_y(value)
        yield element("line", class_="grid", x1=plot.left, x2=plot.right, y1=y, y2=y)
        yield element("text", f"{value:.6g}", class_="tick end", x=plot.left - 8, y=y, dy="0.35em")
    for value in ticks(*plot.x, 7):
        if value == int(value):
            x, y = plot.at_x(value), plot.bottom + 22
            yield element("text", f"{value:.0f}", class_="tick middle", x=x, y=y)
    yield element(
        "line", class_="axis", x1=plot.left, x2=plot.right, y1=plot.bottom, y2=plot.bottom
    )
    middle = (plot.left + plot.right) / 2
    label = f"{y_label}, over {x_label}"
    yield element("text", label, class_="label middle", x=middle, y=plot.bottom + 48)


def _path(plot: Plot, line: Line) -> str:
    places = [f"{plot.at_x(x):.1f} {plot.at_y(y):.1f}" for x, y in line.points]
    return element("path", class_=f"best {line.kind}", d="M" + "L".join(places))


def _dots(plot: Plot, line: Line) -> Iterator[str]:
    for x, y in line.points:
        title = element("title", f"{line.name}, {x:g}: {y:.3g}")
        yield element(
            "circle",
            title,
            raw=True,
            class_=f"dot {line.kind}",
            cx=plot.at_x(x),
            cy=plot.at_y(y),
            r=4,
        )
