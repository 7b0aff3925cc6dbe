"""Charts of a run: children of a search, the difference of two arms, seconds of the steps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nascore.figures import formatting
from nascore.figures.chart import PALETTE, WIDTH, Chart, figure_of, make_axes
from nascore.figures.plots import set_ticks
from nascore.results import Arm, Child, SearchResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DOTS = 1500
"""Children drawn of each arm; of more, every n-th and all that set a new best."""
BUSY = ("data", "training", "profiling")
"""Kinds of work of a step; the rest of its time is overhead."""

_MARKERS: Mapping[str, dict[str, Any]] = {
    "dot": {"alpha": 0.55, "markeredgewidth": 0},
    "failed": {"marker": "x", "markersize": 8, "markeredgewidth": 2},
    "below": {"marker": "v", "markersize": 8, "markeredgewidth": 0},
}
_OUTCOME_COLOURS = {"better": "good", "not better": "bad"}


@dataclass(frozen=True, slots=True)
class StepCost:
    """Wall seconds of a pipeline step.

    Attributes:
        busy: seconds by `BUSY`; None when only the total is known.
    """

    name: str
    seconds: float
    busy: Mapping[str, float] | None

    @property
    def overhead(self) -> float | None:
        """Seconds of the step that were none of `BUSY`."""
        return None if self.busy is None else max(0.0, self.seconds - sum(self.busy.values()))


def best_so_far(children: Sequence[Child]) -> list[float | None]:
    """Return the highest validation score up to each child; None before the first score."""
    best: float | None = None
    curve = []
    for child in children:
        score = child.score
        if score is not None and (best is None or score > best):
            best = score
        curve.append(best)
    return curve


def search_curve(
    arm: Arm,
    control: Arm | None,
    describe: Callable[[Child], str],
    *,
    figure: str = "accuracy",
) -> Chart:
    """Return every child as a dot and the best score so far of each arm as a line.

    Args:
        arm: the arm of the method.
        control: the arm of the control, if there is one.
        describe: text for a child, shown in its tooltip.
        figure: name of the score.
    """
    arms = [("method", arm)] + ([("control", control)] if control is not None else [])
    axes = make_axes(372)
    axes.set_xlim(_x_range(arms))
    low, high = _y_range(arms)
    axes.set_ylim(low, high)
    digits = 1 if high - low < 0.05 else 0
    set_ticks(axes.yaxis, 6, lambda value: formatting.percent(value, digits))
    is_child = "{:.0f}".format
    set_ticks(axes.xaxis, 7, lambda x: is_child(x) if x == int(x) and x >= 1 else "")
    axes.set_xlabel("children trained", fontsize=11, color=PALETTE["ink"], labelpad=12)
    tooltips: dict[str, list[str]] = {}
    # The control is drawn first: where the two meet, the method is visible.
    for name, one in reversed(arms):
        tooltips |= _draw_children(axes, name, one, describe)
    for name, one in reversed(arms):
        _draw_best(axes, name, one)
    label = "; ".join(f"{one.method}: {_summary(one)}" for _, one in arms)
    text = f"Validation {figure} over children trained. {label}."
    return Chart(figure_of(axes), "search-curve", text, tooltips)


def cost_front(search: SearchResult, *, figure: str = "accuracy") -> Chart | None:
    """Return the children over their cost, with a line through those that none beats in both.

    Args:
        search: result of the search.
        figure: name of the score.

    Returns:
        The chart; None where no child has a cost.
    """
    measured = {
        child.number: (child.scores.compared_cost, child.scores.valid)
        for child in search.arm.children
        if child.scores is not None and child.scores.compared_cost
    }
    if not measured:
        return None
    from matplotlib.ticker import LogLocator, NullLocator

    axes, short = make_axes(372), formatting.short_count
    axes.set_xscale("log")
    x, y = [cost for cost, _ in measured.values()], [score for _, score in measured.values()]
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 8, "clip_on": False}
    axes.plot(x, y, color=PALETTE["method"], gid="dot method", **(look | _MARKERS["dot"]))
    front = sorted(measured[number] for number in search.pareto if number in measured)
    if front:
        x, y = [cost for cost, _ in front], [score for _, score in front]
        line: dict[str, Any] = {"linewidth": 2.5, "clip_on": False, "gid": "front"}
        axes.plot(x, y, drawstyle="steps-post", color=PALETTE["good"], **line)
    low, high = axes.get_ylim()
    digits = 1 if high - low < 0.05 else 0
    set_ticks(axes.yaxis, 6, lambda value: formatting.percent(value, digits))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.3g}" if value < 1 else short(value))
    label = f"validation {figure}, over {search.cost_metric} (logarithmic)"
    axes.set_xlabel(label, fontsize=11, color=PALETTE["ink"], labelpad=12)
    text = (
        f"Validation {figure} over {search.cost_metric} of {len(measured)} children; "
        f"{len(front)} are beaten by none in both."
    )
    return Chart(figure_of(axes), "cost-front", text)


def _summary(arm: Arm) -> str:
    best = arm.best
    failed = sum(child.scores is None for child in arm.children)
    text = f"{len(arm.children)} children, {failed} failed"
    return text if best is None else f"{text}, best {formatting.percent(best.score)}"


def _x_range(arms: Sequence[tuple[str, Arm]]) -> tuple[float, float]:
    longest = max(len(arm.children) for _, arm in arms)
    pad = max(0.5, 0.015 * longest)
    return 1 - pad, max(longest, 1) + pad


def _y_range(arms: Sequence[tuple[str, Arm]]) -> tuple[float, float]:
    """Return limits from the worst child, or from the 10th percentile where a few are far below."""
    values = sorted(
        child.score for _, arm in arms for child in arm.children if child.score is not None
    )
    if not values:
        return 0.0, 1.0
    high, low = values[-1], values[0]
    tenth = values[len(values) // 10]
    if high - low > 2 * (high - tenth):
        low = tenth
    pad = max(0.06 * (high - low), 0.002)
    return max(0.0, low - pad), min(1.0, high + pad)


def _draw_children(
    axes: "Axes", name: str, arm: Arm, describe: Callable[[Child], str]
) -> dict[str, list[str]]:
    """Draw one marker a child and return the tooltips by gid."""
    bottom = axes.get_ylim()[0]
    groups: dict[str, list[tuple[int, float, str]]] = {}
    for position, child in _shown(arm.children):
        start, score = f"{arm.method}, child {position}: ", child.score
        if score is None:
            kind, y, text = "failed", bottom, f"failed, {child.failure}"
        else:
            kind, y = ("below", bottom) if score < bottom else ("dot", score)
            text = f"{formatting.percent(score)}, {describe(child)}"
        groups.setdefault(kind, []).append((position, y, start + text))
    is_method = name == "method"
    dot: dict[str, Any] = {"marker": "o" if is_method else "D", "markersize": 8 if is_method else 6}
    for kind, marks in groups.items():
        look = {"linestyle": "none", "color": PALETTE[name], "clip_on": False, **dot}
        xs, ys = [x for x, _, _ in marks], [y for _, y, _ in marks]
        axes.plot(xs, ys, gid=f"{kind} {name}", **(look | _MARKERS[kind]))
    return {f"{kind} {name}": [text for *_, text in marks] for kind, marks in groups.items()}


def _shown(children: Sequence[Child]) -> Iterator[tuple[int, Child]]:
    """Yield the children that are drawn, with their positions from 1."""
    stride = math.ceil(len(children) / MAX_DOTS)
    previous: float | None = None
    for position, (child, best) in enumerate(
        zip(children, best_so_far(children), strict=True), start=1
    ):
        is_record, previous = best != previous, best
        if is_record or position % stride == 0:
            yield position, child


def _draw_best(axes: "Axes", name: str, arm: Arm) -> None:
    """Draw steps, since the best changes at a child and not between two."""
    curve = [(x, y) for x, y in enumerate(best_so_far(arm.children), start=1) if y is not None]
    x, y = [x for x, _ in curve], [y for _, y in curve]
    look: dict[str, Any] = {"linewidth": 2.5, "clip_on": False, "gid": f"best {name}"}
    style = "-" if name == "method" else (0, (2.4, 1.6))
    axes.plot(x, y, drawstyle="steps-post", color=PALETTE[name], linestyle=style, **look)


def interval(
    difference: float, low: float, high: float, *, margin: float | None, outcome: str
) -> Chart:
    """Return the difference of the arms and its interval, compared with zero.

    Args:
        difference: method minus control, as a fraction.
        low: lower end of the interval; `high`: its upper end.
        high: see `low`.
        margin: smallest relevant difference, drawn as a band around zero; None or 0 for no band.
        outcome: of the verdict; it decides on the colour.
    """
    ends = [0.0, difference, low, high, *([-margin, margin] if margin else [])]
    spread = max(ends) - min(ends) or 0.01
    axes = make_axes(140, left=16, right=16, top=4, bottom=56)
    axes.set(xlim=(min(ends) - 0.12 * spread, max(ends) + 0.12 * spread), ylim=(-1, 1), yticks=())
    set_ticks(axes.xaxis, 5, lambda x: "0" if x == 0 else f"{100 * x:+.3g}")
    label = "percentage points, method minus control"
    axes.set_xlabel(label, fontsize=11, color=PALETTE["ink"], labelpad=12)
    if margin:
        axes.axvspan(-margin, margin, color=PALETTE["soft"], clip_on=False, linewidth=0)
    axes.axvline(0, color=PALETTE["muted"], linewidth=1, clip_on=False)
    look: dict[str, Any] = {"color": PALETTE[_OUTCOME_COLOURS.get(outcome, "open")]}
    look |= {"clip_on": False, "gid": f"interval {outcome.replace(' ', '-')}"}
    axes.plot([low, high], [0, 0], "|-", markersize=16, markeredgewidth=3, linewidth=3, **look)
    axes.plot([difference], [0], "o", markersize=14, **look)
    text = (
        f"Difference of the arms {formatting.points(difference)} percentage points, "
        f"interval {formatting.points(low)} to {formatting.points(high)}."
    )
    return Chart(figure_of(axes), "interval-chart", text)


def step_bars(steps: Sequence[StepCost]) -> Chart:
    """Return a bar for each step, divided into data, training, profiling and overhead."""
    num_rows = max(1, len(steps))
    axes = make_axes(50 * num_rows, left=2, right=2, top=0, bottom=0)
    longest = max((step.seconds for step in steps), default=0.0) or 1.0
    axes.set(xlim=(0, longest), ylim=(num_rows, 0), xticks=(), yticks=())
    axes.spines["bottom"].set_visible(False)
    tooltips: dict[str, list[str]] = {}
    look: dict[str, Any] = {"height": 0.24, "clip_on": False}
    label: dict[str, Any] = {"va": "center", "fontsize": 20}
    for row, step in enumerate(steps):
        seconds = formatting.duration(step.seconds)
        axes.text(0, row + 0.3, step.name, color=PALETTE["ink"], **label)
        axes.text(longest, row + 0.3, seconds, ha="right", color=PALETTE["muted"], **label)
        axes.barh(row + 0.68, longest, color=PALETTE["soft"], **look)
        start = 0.0
        for kind, part in _parts(step):
            width, colour = max(part, longest / WIDTH), PALETTE[_BAR_COLOURS.get(kind, kind)]
            for bar in axes.barh(row + 0.68, width, left=start, color=colour, **look):
                bar.set_gid(f"bar {kind}")
            text = f"{step.name}, {kind}: {formatting.duration(part)}"
            tooltips.setdefault(f"bar {kind}", []).append(text)
            start += part
    described = "; ".join(f"{step.name} {formatting.duration(step.seconds)}" for step in steps)
    return Chart(figure_of(axes), "step-bars", f"Cost by step: {described}.", tooltips)


_BAR_COLOURS = {"training": "method", "total": "method"}


def _parts(step: StepCost) -> Iterator[tuple[str, float]]:
    if step.busy is None or step.overhead is None:
        yield "total", step.seconds
        return
    for kind in BUSY:
        if step.busy.get(kind, 0.0) > 0:
            yield kind, step.busy[kind]
    yield "overhead", step.overhead
