"""Updates of the distribution: the gradient of a node's scale."""

import pytest
import torch

from nascore.methods.nasib.updates import without_node_scale
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace

SPACE = SuperkernelSpace(SuperkernelSpaceConfig())
NONE = SPACE.config.operations.index("none")


def test_the_scale_of_a_node_is_subtracted_from_the_gradient() -> None:
    tokens_EA = torch.zeros(len(SPACE.edges), len(AXES), dtype=torch.int64)
    tokens_EA[3, 0] = NONE
    gradients_E = torch.randn(len(SPACE.edges), generator=torch.Generator().manual_seed(0))
    found_E = without_node_scale(gradients_E, tokens_EA, SPACE)
    assert found_E[3] == 0, "an edge that is nothing has no scale"
    nodes: dict[tuple[int, int], list[int]] = {}
    for number, edge in enumerate(SPACE.edges):
        nodes.setdefault((edge.cell, edge.target), []).append(number)
    for edges in nodes.values():
        others = [edge for edge in edges if edge != 3]
        assert float(found_E[others].sum()) == pytest.approx(0.0, abs=1e-6)
        subtracted = gradients_E[others] - found_E[others]
        torch.testing.assert_close(subtracted, subtracted[:1].expand_as(subtracted))
