"""Drawing of an architecture as one self-contained `<svg>` element.

The layout runs from top to bottom. The row of a node is the length of the longest path to it
(Sugiyama's layering), so an edge to the next row crosses only the gap between two rows. An edge
that skips rows leaves into the gap below its source, runs down a lane outside of all boxes that it
passes, and returns in the gap above its target; edges of one source share a lane. Text and lines
have the colour of the page (`currentColor`) and boxes are tinted, so that a drawing is legible on
light and dark pages. Graphviz would need its `dot` program, which no maintained wheel contains.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from nascore.spaces.base import ArchitectureGraph, GraphNode

_BOX_HEIGHT, _ROW_GAP, _BOX_GAP = 44.0, 38.0, 26.0
_LANE_DISTANCE, _LANE_GAP, _MARGIN = 22.0, 13.0, 14.0
_LABEL_SIZE, _DETAIL_SIZE = 13, 11
_CHARACTER_WIDTH = 0.6  # of the font size; a little more than most fonts need
_MAX_CHARACTERS = 32
_MIN_BOX_WIDTH = 84.0
_LEGEND_HEIGHT = 24.0
_NEUTRAL = "currentColor"
_COLOURS = {  # of middle lightness: they stand out from white and from black
    "conv": "#2f7fe0",
    "separable": "#9a5fe0",
    "pool": "#d9822b",
    "skip": "#2a9d6f",
}
_NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Box:
    """A node with its position; `x` is its centre, 0 the centre of the drawing."""

    node: GraphNode
    row: int
    x: float
    width: float

    @property
    def top(self) -> float:
        return _top(self.row)

    @property
    def bottom(self) -> float:
        return self.top + _BOX_HEIGHT


@dataclass(frozen=True, slots=True)
class _Lane:
    """A vertical line from the row below `first` to the row above `last`."""

    x: float
    first: int
    last: int


def to_svg(graph: ArchitectureGraph, *, title: str = "Architecture") -> str:
    """Draw a directed acyclic graph.

    Edges with a label are dashed, with a legend. Each box and line has a tooltip with its full
    text.

    Args:
        graph: nodes and edges.
        title: for screen readers, and the tooltip of the drawing.

    Returns:
        An `<svg>` element; all text of the graph is escaped.

    Raises:
        ValueError: the graph has a cycle, or an edge with an unknown node.
    """
    boxes = _place(graph)
    lanes = _lanes(graph, boxes)
    lines = [_line(edge, boxes, lanes) for edge in graph.edges]
    left, right = _extent(boxes.values(), lanes.values())
    height = max(box.bottom for box in boxes.values()) + _MARGIN
    legend = _legend(graph, left=left, top=height)
    height += _LEGEND_HEIGHT if legend else 0
    view = f"{_n(left)} {_n(-_MARGIN)} {_n(right - left)} {_n(height + _MARGIN)}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="nas-architecture" viewBox="{view}" '
            f'width="{_n(right - left)}" height="{_n(height + _MARGIN)}" role="img" '
            f'aria-label={quoteattr(_clean(title))} font-family="system-ui, sans-serif" '
            'fill="none" stroke-width="1.5">',
            f"<title>{escape(_clean(title))}</title>",
            # Opacity of the group, not of its members: crossing lines are not darker.
            '<g stroke="currentColor" opacity="0.6">',
            *lines,
            "</g>",
            *(_box(box) for box in boxes.values()),
            *legend,
            "</svg>",
        ]
    )


# --- positions ---------------------------------------------------------------------------------


def _place(graph: ArchitectureGraph) -> dict[str, _Box]:
    rows = _rows(graph)
    reach = {node.id: 0 for node in graph.nodes}
    for source, target, _ in graph.edges:
        reach[source] = max(reach[source], rows[target] - rows[source])
    members: dict[int, list[GraphNode]] = defaultdict(list)
    for node in graph.nodes:
        members[rows[node.id]].append(node)
    places: dict[str, _Box] = {}
    num_wide = 0  # rows of several nodes so far
    for row, nodes in sorted(members.items()):
        # Nodes with long edges are outside, where they block no lane, and on alternating sides, so
        # that their lanes seldom cross.
        ordered: list[GraphNode] = []
        for position, node in enumerate(sorted(nodes, key=lambda node: reach[node.id])):
            ordered.insert(0 if (position + num_wide) % 2 else len(ordered), node)
        num_wide += len(nodes) > 1
        widths = [_width(node) for node in ordered]
        x = -(sum(widths) + _BOX_GAP * (len(widths) - 1)) / 2
        for node, width in zip(ordered, widths, strict=True):
            places[node.id] = _Box(node, row, x + width / 2, width)
            x += width + _BOX_GAP
    return {node.id: places[node.id] for node in graph.nodes}


def _rows(graph: ArchitectureGraph) -> dict[str, int]:
    """Return the row of each node, the longest path to it; outputs are in the last row."""
    rows = {node.id: 0 for node in graph.nodes}
    for source, target, _ in graph.edges:
        if source not in rows or target not in rows:
            raise ValueError(f"edge ({source!r}, {target!r}) names a node that is not in the graph")
    for _ in range(len(graph.nodes) + 1):
        before = dict(rows)
        for source, target, _ in graph.edges:
            rows[target] = max(rows[target], rows[source] + 1)
        if rows == before:
            break
    else:
        raise ValueError("the graph has a cycle; an architecture is acyclic")
    inner = [rows[node.id] for node in graph.nodes if node.kind != "output"]
    sources = {source for source, _, _ in graph.edges}
    for node in graph.nodes:
        if node.kind == "output" and node.id not in sources:
            rows[node.id] = max(rows[node.id], 1 + max(inner, default=-1))
    return rows


def _lanes(graph: ArchitectureGraph, boxes: dict[str, _Box]) -> dict[str, _Lane]:
    """Return one lane for each source of edges that skip rows, short lanes inside."""
    last: dict[str, int] = {}
    for source, target, _ in graph.edges:
        if boxes[target].row - boxes[source].row > 1:
            last[source] = max(last.get(source, 0), boxes[target].row)
    lanes: dict[str, _Lane] = {}
    for source in sorted(last, key=lambda source: (last[source] - boxes[source].row, source)):
        box = boxes[source]
        sides = [1] if box.x > 0 else [-1] if box.x < 0 else [1, -1]
        offers = [
            _free_lane(side, box.row, last[source], list(boxes.values()), list(lanes.values()))
            for side in sides
        ]
        lanes[source] = min(offers, key=lambda lane: abs(lane.x))
    return lanes


def _free_lane(side: int, first: int, last: int, boxes: list[_Box], lanes: list[_Lane]) -> _Lane:
    """Return the innermost free lane on one side (1 right, -1 left)."""
    edges = [side * box.x + box.width / 2 for box in boxes if first < box.row < last]
    x = max(edges) + _LANE_DISTANCE
    for lane in lanes:
        if side * lane.x > 0 and lane.first < last and first < lane.last:
            x = max(x, side * lane.x + _LANE_GAP)
    return _Lane(side * x, first, last)


def _extent(boxes: Iterable[_Box], lanes: Iterable[_Lane]) -> tuple[float, float]:
    half = [(box.x - box.width / 2, box.x + box.width / 2) for box in boxes]
    half += [(lane.x, lane.x) for lane in lanes]
    return min(left for left, _ in half) - _MARGIN, max(right for _, right in half) + _MARGIN


def _top(row: int) -> float:
    return row * (_BOX_HEIGHT + _ROW_GAP)


def _width(node: GraphNode) -> float:
    label = len(_short(node.label)) * _LABEL_SIZE
    detail = len(_short(node.detail)) * _DETAIL_SIZE
    return max(_MIN_BOX_WIDTH, max(label, detail) * _CHARACTER_WIDTH + 24)


# --- marks ----------------------------------------------------------------------------------


def _line(edge: tuple[str, str, str], boxes: dict[str, _Box], lanes: dict[str, _Lane]) -> str:
    source, target, label = boxes[edge[0]], boxes[edge[1]], edge[2]
    if target.row - source.row > 1:
        lane = lanes[edge[0]]
        start, end = (
            box.x + (box.width if lane.x > box.x else -box.width) / 4 for box in (source, target)
        )
        leave, arrive = _top(source.row + 1), _top(target.row - 1) + _BOX_HEIGHT
        path = (
            f"M{_n(start)} {_n(source.bottom)}{_bend(start, source.bottom, lane.x, leave)}"
            f"V{_n(arrive)}{_bend(lane.x, arrive, end, target.top)}"
        )
    else:
        # A labelled edge is parallel to an unlabelled one between the same two boxes.
        shift = min(source.width, target.width) / 4 if label else 0.0
        start, end = source.x + shift, target.x + shift
        path = f"M{_n(start)} {_n(source.bottom)}{_bend(start, source.bottom, end, target.top)}"
    text = f"{source.node.label} → {target.node.label}" + (f": {label}" if label else "")
    dashes = ' stroke-dasharray="5 4"' if label else ""
    head = f"M{_n(end)} {_n(target.top)}l-4 -7h8z"
    return (
        f'<g><title>{escape(_clean(text))}</title><path d="{path}"{dashes}/>'
        f'<path d="{head}" fill="currentColor" stroke="none"/></g>'
    )


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """Return a curve that starts and ends vertically."""
    middle = (y + to_y) / 2
    return f"C{_n(x)} {_n(middle)} {_n(to_x)} {_n(middle)} {_n(to_x)} {_n(to_y)}"


def _box(box: _Box) -> str:
    node, colour = box.node, _COLOURS.get(box.node.kind, _NEUTRAL)
    tooltip = ", ".join(text for text in (node.label, node.detail) if text)
    middle = box.top + _BOX_HEIGHT / 2
    parts = [
        f"<g><title>{escape(_clean(tooltip))}</title>",
        f'<rect x="{_n(box.x - box.width / 2)}" y="{_n(box.top)}" width="{_n(box.width)}" '
        f'height="{_n(_BOX_HEIGHT)}" rx="8" stroke="{colour}" fill="{colour}" '
        f'fill-opacity="{0.06 if colour == _NEUTRAL else 0.16}"/>',
        _text(node.label, box.x, middle + (-2 if node.detail else 5), _LABEL_SIZE, weight=600),
    ]
    if node.detail:
        parts.append(_text(node.detail, box.x, middle + 14, _DETAIL_SIZE))
    return "".join([*parts, "</g>"])


def _legend(graph: ArchitectureGraph, *, left: float, top: float) -> list[str]:
    labels = list(dict.fromkeys(label for _, _, label in graph.edges if label))
    if not labels:
        return []
    text = ", ".join(labels)
    x, y = left + _MARGIN, top + _LEGEND_HEIGHT / 2
    return [
        f'<path d="M{_n(x)} {_n(y)}h28" stroke="currentColor" opacity="0.6" '
        'stroke-dasharray="5 4"/>',
        _text(text, x + 36, y + 4, _DETAIL_SIZE, anchor="start"),
    ]


def _text(
    text: str, x: float, y: float, size: int, *, weight: int = 400, anchor: str = "middle"
) -> str:
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="currentColor">{escape(_short(text))}</text>'
    )


def _short(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"


def _clean(text: str) -> str:
    """Remove control characters, which XML does not allow."""
    return _NOT_IN_XML.sub("", text)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
