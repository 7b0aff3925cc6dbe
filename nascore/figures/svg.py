"""Writing SVG: elements as strings, always escaped, and round values for an axis."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 720
"""Of every view box; the height belongs to the chart."""


def element(
    tag: str, content: str = "", *, raw: bool = False, **attributes: str | float | None
) -> str:
    """An element; `content` is text and escaped, unless it is markup of ours (`raw`).

    Attribute names are given with `_` for `-`, and a trailing `_` where Python owns the word.
    """
    parts = [tag]
    for key, value in attributes.items():
        if value is not None:
            text = f"{value:.2f}" if isinstance(value, float) else str(value)
            parts.append(f"{key.rstrip('_').replace('_', '-')}={quoteattr(text)}")
    return f"<{' '.join(parts)}>{content if raw else escape(content)}</{tag}>"


def chart(name: str, height: float, text: str, body: Sequence[str]) -> str:
    """The whole drawing; `text` says in words what it shows."""
    return element(
        "svg",
        "".join(body),
        raw=True,
        class_=f"chart {name}",
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_label=text,
    )


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) inside [low, high], about `count` of them."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    values = itertools.takewhile(
        lambda value: value <= high + 1e-9 * step, (i * step for i in itertools.count(first))
    )
    return [round(value, 12) for value in values]


@dataclass(frozen=True, slots=True)
class Plot:
    """Where values are drawn: `x` and `y` are the ranges between the four edges."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at_x(self, value: float) -> float:
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)

    def at_y(self, value: float) -> float:
        share = (value - self.y[0]) / (self.y[1] - self.y[0])
        return self.bottom - min(1.0, max(0.0, share)) * (self.bottom - self.top)
