"""The drawing, read back as XML: what it says, and that no line runs through a box."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import numpy as np
import pytest

from nascore.spaces.base import ArchitectureGraph, GraphNode, ImageShape, make_space, sample
from nascore.spaces.chain.config import ChainSpaceConfig
from nascore.spaces.drawing import to_svg
from nascore.spaces.enas_micro.config import EnasMicroSpaceConfig
from nascore.spaces.mobilenet.config import MobileSpaceConfig
from nascore.spaces.nasbench201.config import Cell201SpaceConfig
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig

SVG = "{http://www.w3.org/2000/svg}"
SHAPE = ImageShape(3, 32, 10)
Point = tuple[float, float]


def node(name: str, kind: str = "conv", *, label: str = "", detail: str = "") -> GraphNode:
    return GraphNode(name, label or f"label {name}", kind, detail)


def dag(num_nodes: int, rng: np.random.Generator) -> ArchitectureGraph:
    """Random, with several edges into most nodes and some that skip far."""
    nodes = [node(str(i), "input" if i == 0 else "conv") for i in range(num_nodes)]
    edges = [
        (str(source), str(target), "")
        for target in range(1, num_nodes)
        for source in set(rng.integers(target, size=2).tolist())
    ]
    return ArchitectureGraph(tuple(nodes), tuple(edges))


def graphs() -> Iterator[ArchitectureGraph]:
    rng = np.random.default_rng(0)
    for config in (
        ChainSpaceConfig(),
        ChainSpaceConfig(num_layers=15, vocabulary=4, channels_per_token=10),
        Cell201SpaceConfig(),
        EnasMicroSpaceConfig(),
        MobileSpaceConfig(),
        SuperkernelSpaceConfig(),
    ):
        space = make_space(config)
        for _ in range(12):
            yield space.graph(sample(space, rng), SHAPE)
    for num_nodes in range(2, 14):
        yield dag(num_nodes, rng)


def boxes(root: ET.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom."""
    found = []
    for rect in root.iter(f"{SVG}rect"):
        x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


def curve(path: str) -> list[Point]:
    """Points on a path of M, C and V commands."""
    points: list[Point] = []
    for command, text in re.findall(r"([MCV])([^MCV]*)", path):
        numbers = [float(number) for number in text.split()]
        if command == "M":
            points.append((numbers[0], numbers[1]))
        elif command == "V":
            x, y = points[-1]
            points += [(x, y + t * (numbers[0] - y)) for t in np.linspace(0, 1, 40)]
        else:
            control = np.array([points[-1], *zip(numbers[::2], numbers[1::2], strict=True)])
            for t in np.linspace(0, 1, 40):
                weights = np.array([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
                points.append(tuple((weights @ control).tolist()))
    return points


def lines(root: ET.Element) -> list[list[Point]]:
    return [
        curve(path.attrib["d"])
        for path in root.iter(f"{SVG}path")
        if re.search("[CV]", path.attrib["d"])
    ]


def test_every_node_and_edge_is_drawn_once() -> None:
    for graph in graphs():
        root = ET.fromstring(to_svg(graph))
        assert len(boxes(root)) == len(graph.nodes)
        assert len(lines(root)) == len(graph.edges)
        texts = [text.text for text in root.iter(f"{SVG}text")]
        for one in graph.nodes:
            assert one.label in texts
            assert not one.detail or one.detail in texts


def test_no_line_runs_through_a_box() -> None:
    for graph in graphs():
        root = ET.fromstring(to_svg(graph))
        for line in lines(root):
            for left, top, right, bottom in boxes(root):
                inside = [(x, y) for x, y in line if left < x < right and top < y < bottom]
                assert not inside, (graph, inside[0])


def test_lines_join_their_boxes_downwards() -> None:
    for graph in graphs():
        root = ET.fromstring(to_svg(graph))
        place = dict(zip([one.id for one in graph.nodes], boxes(root), strict=True))
        for (source, target, _), line in zip(graph.edges, lines(root), strict=True):
            (x, y), (to_x, to_y) = line[0], line[-1]
            assert place[source][0] < x < place[source][2]
            assert place[target][0] < to_x < place[target][2]
            assert (y, to_y) == (place[source][3], place[target][1])
            assert y < to_y


def test_lines_of_different_sources_run_in_lanes_of_their_own() -> None:
    for graph in graphs():
        root = ET.fromstring(to_svg(graph))
        runs: list[tuple[str, float, float, float]] = []  # source, x, from y, to y
        for (source, _, _), path in zip(
            graph.edges,
            (path.attrib["d"] for path in root.iter(f"{SVG}path") if "C" in path.attrib["d"]),
            strict=True,
        ):
            if match := re.search(r"([-\d.]+) ([-\d.]+)V([-\d.]+)", path):
                runs.append((source, *(float(number) for number in match.groups())))
        for source, x, start, end in runs:
            for other, other_x, other_start, other_end in runs:
                if source != other and start < other_end and other_start < end:
                    assert abs(x - other_x) > 5


def test_boxes_do_not_overlap_and_all_is_on_the_canvas() -> None:
    for graph in graphs():
        root = ET.fromstring(to_svg(graph))
        x, y, width, height = (float(number) for number in root.attrib["viewBox"].split())
        places = boxes(root)
        for i, (left, top, right, bottom) in enumerate(places):
            assert x < left < right < x + width
            assert y < top < bottom < y + height
            for other_left, other_top, other_right, other_bottom in places[:i]:
                apart = right < other_left or other_right < left
                assert apart or bottom < other_top or other_bottom < top
        for line in lines(root):
            assert all(x < px < x + width and y < py < y + height for px, py in line)


def test_it_needs_nothing_from_outside_and_follows_the_page() -> None:
    text = to_svg(next(graphs()), title="Winner")
    assert text.startswith("<svg ")
    assert ET.fromstring(text).find(f"{SVG}title").text == "Winner"
    for forbidden in ("href", "url(", "<script", "<style", "<image", "@import", " id="):
        assert forbidden not in text
    assert set(re.findall(r'fill="([^"]*)"', text)) >= {"none", "currentColor"}
    # One name space and no other address; no black or white that would vanish on some page.
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"#(?:000|fff)", text)


def test_text_is_escaped() -> None:
    hostile = "</title><script>alert('1')</script>&\"\x00\x1b"
    graph = ArchitectureGraph(
        (node("a", label=hostile, detail=hostile), node("b")), (("a", "b", hostile),)
    )
    text = to_svg(graph, title=hostile)
    assert "<script" not in text
    root = ET.fromstring(text)
    readable = hostile.replace("\x00", "").replace("\x1b", "")
    assert root.attrib["aria-label"] == readable
    assert root.find(f"{SVG}title").text == readable


def test_tooltips_hold_the_full_text() -> None:
    long = "a very long label that no box of a drawing could ever hold"
    graph = ArchitectureGraph(
        (node("a", label=long, detail="8×8"), node("b")), (("a", "b", "far"),)
    )
    root = ET.fromstring(to_svg(graph))
    tooltips = [title.text for title in root.iter(f"{SVG}title")]
    assert f"{long}, 8×8" in tooltips
    assert f"{long} → label b: far" in tooltips
    assert all(len(text.text or "") <= 32 for text in root.iter(f"{SVG}text"))


def test_labelled_edges_are_dashed_and_explained() -> None:
    plain = ArchitectureGraph((node("a"), node("b")), (("a", "b", ""),))
    both = ArchitectureGraph(plain.nodes, (("a", "b", ""), ("a", "b", "shortcut")))
    assert "dasharray" not in to_svg(plain)
    root = ET.fromstring(to_svg(both))
    assert "shortcut" in [text.text for text in root.iter(f"{SVG}text")]
    one, other = lines(root)[:2]
    assert one[0][0] != other[0][0]


def test_kinds_have_their_colours() -> None:
    kinds = ("conv", "separable", "pool", "skip", "sum")
    graph = ArchitectureGraph(tuple(node(kind, kind) for kind in kinds), ())
    colours = [rect.attrib["stroke"] for rect in ET.fromstring(to_svg(graph)).iter(f"{SVG}rect")]
    assert len(set(colours)) == 5
    assert colours[-1] == "currentColor"


def test_a_disconnected_output_stands_below() -> None:
    graph = ArchitectureGraph((node("in", "input"), node("out", "output")), ())
    upper, lower = boxes(ET.fromstring(to_svg(graph)))
    assert upper[3] < lower[1]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((("a", "b", ""), ("b", "a", "")), "cycle"),
        ((("a", "a", ""),), "cycle"),
        ((("a", "c", ""),), "'c'"),
    ],
)
def test_what_is_no_architecture_is_refused(edges: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_svg(ArchitectureGraph((node("a"), node("b")), edges))


def test_equal_graphs_give_equal_drawings() -> None:
    assert [to_svg(graph) for graph in graphs()] == [to_svg(graph) for graph in graphs()]
