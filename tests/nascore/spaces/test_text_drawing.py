"""Architectures as text: every node once, every edge from a lower to a higher number."""

import re
from graphlib import CycleError

import pytest

from nascore.spaces.base import ArchitectureGraph, GraphNode
from nascore.spaces.text_drawing import to_text


def node(name: str, kind: str = "conv") -> GraphNode:
    return GraphNode(name, f"op {name}", kind)


def test_nodes_follow_their_inputs_whatever_their_order_was() -> None:
    nodes = (GraphNode("out", "output", "output", "10 classes"), node("b"), node("a", "input"))
    edges = (("b", "out", ""), ("a", "b", ""), ("a", "out", "shortcut"))
    assert to_text(ArchitectureGraph(nodes, edges)) == [
        "1 op a",
        "2 op b <- 1",
        "3 output (10 classes) <- 1 (shortcut), 2",
    ]


def test_an_output_that_nothing_reads_is_last() -> None:
    nodes = (GraphNode("out", "output", "output"), node("a", "input"), node("unread"))
    lines = to_text(ArchitectureGraph(nodes, (("a", "out", ""), ("a", "unread", ""))))
    assert lines[-1] == "3 output <- 1"


def test_numbers_have_one_width() -> None:
    nodes = tuple(node(str(number)) for number in range(12))
    edges = tuple((str(number), str(number + 1), "") for number in range(11))
    lines = to_text(ArchitectureGraph(nodes, edges))
    assert lines[0] == " 1 op 0"
    assert lines[-1] == "12 op 11 <- 11"
    for line in lines[1:]:
        number, source = map(int, re.findall(r"^ *(\d+) .* <- (\d+)$", line)[0])
        assert source < number


def test_a_cycle_is_an_error() -> None:
    nodes = (node("a"), node("b"))
    with pytest.raises(CycleError):
        to_text(ArchitectureGraph(nodes, (("a", "b", ""), ("b", "a", ""))))
