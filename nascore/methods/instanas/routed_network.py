"""Controller and meta-graph as one network, which sends each image along its own path.

It is the result of a search: the controller is frozen, the meta-graph can be trained further (stage
3 of InstaNAS, arXiv 1811.10201, released code `finetune.py`).

B images, L blocks, O operations, C channels, K classes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nascore.methods.instanas.controller import PolicyNetwork, greedy
from nascore.methods.instanas.cost_table import LatencyTable
from nascore.methods.instanas.export import Answer, RoutedModel
from nascore.methods.instanas.supernet import MetaGraph, make_metagraph
from nascore.spaces.base import ImageShape
from nascore.spaces.mobilenet.space import MobileSpace

KIND = "routed"


class Routed(nn.Module):
    """Images (B, C, H, W) -> logits (B, K), each image by its own greedy policy.

    The controller is frozen: it has no gradient and stays in evaluation mode.

    Attributes:
        cost_LO: latency of each operation, in the unit of the table.
        constant: scalar; latency of the parts that all images need: stem, head and controller.
    """

    cost_LO: Tensor
    constant: Tensor

    def __init__(
        self, controller: PolicyNetwork, meta_graph: MetaGraph, *, cost_LO: Tensor, constant: float
    ) -> None:
        super().__init__()
        self.controller = controller.requires_grad_(False).eval()
        self.meta_graph = meta_graph
        self.register_buffer("cost_LO", cost_LO.detach().float())
        self.register_buffer("constant", torch.tensor(float(constant)))

    @classmethod
    def by_table(
        cls, controller: PolicyNetwork, meta_graph: MetaGraph, table: LatencyTable
    ) -> "Routed":
        return cls(
            controller,
            meta_graph,
            cost_LO=table.costs_LO,
            constant=table.fixed + table.controller,
        )

    def train(self, mode: bool = True) -> "Routed":
        super().train(mode)
        self.controller.eval()
        return self

    def policy(self, x_BCHW: Tensor) -> Tensor:
        """Return the operations that are computed for each image, bool (B, L, O)."""
        with torch.no_grad():
            return self.meta_graph.effective(greedy(self.controller(x_BCHW)))

    def latency(self, policy_BLO: Tensor) -> Tensor:
        """Return the whole latency of effective policies, (B,)."""
        return (policy_BLO * self.cost_LO).sum(dim=(1, 2)) + self.constant

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.meta_graph(x_BCHW, self.policy(x_BCHW))
        return logits_BK

    def answer(self, x_BCHW: Tensor) -> Answer:
        """Return logits (B, K), computed operations as bool (B, L, O), and their latency (B,)."""
        policy_BLO = self.policy(x_BCHW)
        return self.meta_graph(x_BCHW, policy_BLO), policy_BLO, self.latency(policy_BLO)

    def deployed(self) -> RoutedModel:
        """Return a copy that can be exported and returns all three outputs of `answer`."""
        constant = float(self.constant)
        return RoutedModel(
            self.controller, self.meta_graph, cost_LO=self.cost_LO, constant=constant
        ).eval()

    def blueprint(self) -> dict[str, Any]:
        """Return what `rebuild` needs in addition to space and shape, as JSON."""
        return {"kind": KIND, "controller": self.controller.settings}


def rebuild(blueprint: dict[str, Any], space: MobileSpace, shape: ImageShape) -> Routed:
    """Return a network of the same structure, whose weights and latencies are to be loaded."""
    graph = make_metagraph(space, shape, seed=0)
    controller = PolicyNetwork(shape.channels, graph.policy_shape, **blueprint["controller"])
    return Routed(controller, graph, cost_LO=torch.zeros(graph.policy_shape), constant=0.0)
