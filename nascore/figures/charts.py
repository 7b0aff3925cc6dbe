"""The charts of the page, as inline SVG strings without any script.

Colours and font sizes come from the classes in the page's style sheet, so that one drawing serves
light and dark, screen and print. Coordinates are in units of a view box.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nascore.figures import formatting
from nascore.figures.svg import WIDTH, Plot, chart, element, ticks
from nascore.results import Arm, Child

MAX_DOTS = 1500
"""Children drawn an arm; of more, every n-th and all that set a new best."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Wall seconds of a pipeline step; `busy` holds those of data, training and profiling.

    `busy` is None when only the total is known.
    """

    name: str
    seconds: float
    busy: Mapping[str, float] | None

    @property
    def overhead(self) -> float | None:
        return None if self.busy is None else max(0.0, self.seconds - sum(self.busy.values()))


def best_so_far(children: Sequence[Child]) -> list[float | None]:
    """Highest validation score up to each child; None until the first one has finished."""
    best: float | None = None
    curve = []
    for child in children:
        accuracy = child.score
        if accuracy is not None and (best is None or accuracy > best):
            best = accuracy
        curve.append(best)
    return curve


# --- search curve ---------------------------------------------------------------------------


def search_curve(
    arm: Arm,
    control: Arm | None,
    describe: Callable[[Child], str],
    *,
    figure: str = "accuracy",
) -> str:
    """Every child as a dot, the best so far of each arm as a line, over the number of children."""
    arms = [("method", arm)] + ([("control", control)] if control is not None else [])
    plot = Plot(left=70, top=14, right=WIDTH - 16, bottom=318, x=_x_range(arms), y=_y_range(arms))
    body = [*_frame(plot)]
    # The control is drawn first: where the two meet, the method is seen.
    for name, one in reversed(arms):
        body += _dots(plot, name, one, describe)
    for name, one in reversed(arms):
        body.append(_best_line(plot, name, one))
    label = "; ".join(f"{one.method}: {_arm_in_words(one)}" for _, one in arms)
    return chart("search-curve", 372, f"Validation {figure} over children trained. {label}.", body)


def _arm_in_words(arm: Arm) -> str:
    best = arm.best
    failed = sum(child.scores is None for child in arm.children)
    text = f"{len(arm.children)} children, {failed} failed"
    return text if best is None else f"{text}, best {formatting.percent(best.score)}"


def _x_range(arms: Sequence[tuple[str, Arm]]) -> tuple[float, float]:
    longest = max(len(arm.children) for _, arm in arms)
    pad = max(0.5, 0.015 * longest)
    return 1 - pad, max(longest, 1) + pad


def _y_range(arms: Sequence[tuple[str, Arm]]) -> tuple[float, float]:
    """From the worst child, or the 10th percentile where a few bad ones would flatten the rest."""
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


def _frame(plot: Plot) -> Iterator[str]:
    digits = 1 if plot.y[1] - plot.y[0] < 0.05 else 0
    for value in ticks(*plot.y, 6):
        y = plot.at_y(value)
        yield element("line", class_="grid", x1=plot.left, x2=plot.right, y1=y, y2=y)
        label = formatting.percent(value, digits)
        yield element("text", label, class_="tick end", x=plot.left - 8, y=y, dy="0.35em")
    for value in ticks(*plot.x, 7):
        if value == int(value) and value >= 1:
            x, y = plot.at_x(value), plot.bottom + 22
            yield element("text", f"{value:.0f}", class_="tick middle", x=x, y=y)
    yield element(
        "line", class_="axis", x1=plot.left, x2=plot.right, y1=plot.bottom, y2=plot.bottom
    )
    middle = (plot.left + plot.right) / 2
    yield element("text", "children trained", class_="label middle", x=middle, y=plot.bottom + 48)


def _dots(plot: Plot, name: str, arm: Arm, describe: Callable[[Child], str]) -> Iterator[str]:
    stride = math.ceil(len(arm.children) / MAX_DOTS)
    previous: float | None = None
    for position, (child, best) in enumerate(
        zip(arm.children, best_so_far(arm.children), strict=True), start=1
    ):
        is_record, previous = best != previous, best
        if is_record or position % stride == 0:
            yield _dot(plot, name, arm.method, position, child, describe)


def _dot(
    plot: Plot,
    name: str,
    method: str,
    position: int,
    child: Child,
    describe: Callable[[Child], str],
) -> str:
    x, accuracy = plot.at_x(position), child.score
    if accuracy is None:
        title = element("title", f"{method}, child {position}: failed, {child.failure}")
        path = f"M{x - 4:.1f} {plot.bottom - 4:g}l8 8m-8 0l8 -8"
        return element("path", title, raw=True, class_=f"failed {name}", d=path)
    text = f"{method}, child {position}: {formatting.percent(accuracy)}, {describe(child)}"
    title = element("title", text)
    y = plot.at_y(accuracy)
    if accuracy < plot.y[0]:
        path = f"M{x - 4:.1f} {y - 8:.1f}h8l-4 7z"
        return element("path", title, raw=True, class_=f"below {name}", d=path)
    if name == "control":
        path = f"M{x:.1f} {y - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"
        return element("path", title, raw=True, class_="dot control", d=path)
    return element("circle", title, raw=True, class_="dot method", cx=x, cy=y, r=4)


def _best_line(plot: Plot, name: str, arm: Arm) -> str:
    """Steps, since the best changes at a child and not between two."""
    commands: list[str] = []
    for position, best in enumerate(best_so_far(arm.children), start=1):
        if best is None:
            continue
        x, y = plot.at_x(position), plot.at_y(best)
        commands.append(f"M{x:.1f} {y:.1f}" if not commands else f"H{x:.1f}V{y:.1f}")
    return element("path", class_=f"best {name}", d="".join(commands) or "M0 0")


# --- verdict and cost -----------------------------------------------------------------------


def interval(
    difference: float, low: float, high: float, *, margin: float | None, outcome: str
) -> str:
    """The difference of the arms and its interval, against zero; the margin as a band."""
    ends = [0.0, difference, low, high, *([-margin, margin] if margin else [])]
    spread = max(ends) - min(ends) or 0.01
    plot = Plot(
        left=16,
        top=0,
        right=WIDTH - 16,
        bottom=84,
        x=(min(ends) - 0.12 * spread, max(ends) + 0.12 * spread),
        y=(0, 1),
    )
    zero, middle, y = plot.at_x(0), plot.at_x(difference), 44.0
    body = []
    if margin:
        left, right = plot.at_x(-margin), plot.at_x(margin)
        body.append(
            element(
                "rect", class_="margin", x=left, y=8, width=right - left, height=plot.bottom - 8
            )
        )
    body.append(element("line", class_="zero", x1=zero, x2=zero, y1=4, y2=plot.bottom))
    body.append(element("line", class_="axis", x1=16, x2=WIDTH - 16, y1=84, y2=84))
    for value in ticks(*plot.x, 5):
        label = "0" if value == 0 else f"{100 * value:+.3g}"
        body.append(
            element("text", label, class_="tick middle", x=plot.at_x(value), y=plot.bottom + 22)
        )
    kind = outcome.replace(" ", "-")
    x1, x2 = plot.at_x(low), plot.at_x(high)
    whisker = f"M{x1:.1f} {y}H{x2:.1f}M{x1:.1f} {y - 8}v16M{x2:.1f} {y - 8}v16"
    body.append(element("path", class_=f"interval {kind}", d=whisker))
    body.append(element("circle", class_=f"estimate {kind}", cx=middle, cy=y, r=7))
    body.append(
        element(
            "text",
            "percentage points, method minus control",
            class_="label middle",
            x=WIDTH / 2,
            y=plot.bottom + 48,
        )
    )
    text = (
        f"Difference of the arms {formatting.points(difference)} percentage points, "
        f"interval {formatting.points(low)} to {formatting.points(high)}."
    )
    return chart("interval-chart", 140, text, body)


BUSY = ("data", "training", "profiling")


def step_bars(steps: Sequence[StepCost]) -> str:
    """One bar a step: what was data, training or profiling, and what was overhead."""
    longest = max((step.seconds for step in steps), default=0.0) or 1.0
    scale, row = (WIDTH - 4) / longest, 50
    body = []
    for index, step in enumerate(steps):
        y = index * row
        body.append(element("text", step.name, class_="label", x=2, y=y + 20))
        body.append(
            element(
                "text", formatting.duration(step.seconds), class_="tick end", x=WIDTH - 2, y=y + 20
            )
        )
        body.append(
            element("rect", class_="track", x=2, y=y + 28, width=WIDTH - 4, height=12, rx=3)
        )
        x = 2.0
        for kind, seconds in _parts(step):
            title = element("title", f"{step.name}, {kind}: {formatting.duration(seconds)}")
            body.append(
                element(
                    "rect",
                    title,
                    raw=True,
                    class_=f"bar {kind}",
                    x=x,
                    y=y + 28,
                    width=max(1.0, seconds * scale),
                    height=12,
                )
            )
            x += seconds * scale
    text = "; ".join(f"{step.name} {formatting.duration(step.seconds)}" for step in steps)
    return chart("step-bars", max(1, len(steps)) * row, f"Cost by step: {text}.", body)


def _parts(step: StepCost) -> Iterator[tuple[str, float]]:
    if step.busy is None or step.overhead is None:
        yield "total", step.seconds
        return
    for kind in BUSY:
        if step.busy.get(kind, 0.0) > 0:
            yield kind, step.busy[kind]
    yield "overhead", step.overhead
