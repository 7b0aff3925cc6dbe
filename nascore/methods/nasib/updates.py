"""Updates of the distribution along a sampled path of the supernet.

With several processes each has its part of a batch, and gradients are summed.

B images, C channels, E edges, S logits of an edge.
"""

import torch
from torch import Tensor

from nascore import checkpoint
from nascore.methods.common.weight_updates import path_loss
from nascore.methods.nasib.distribution import Distribution, Sample
from nascore.methods.nasib.supernet import SuperkernelSupernet
from nascore.spaces.superkernel.space import AXES, SuperkernelSpace
from nascore.training import distributed
from nascore.training.resumable import load_optimizer, optimizer_tensors, tensors_of

_BETAS = (0.5, 0.999)  # of Adam for the distribution, as in DARTS (arXiv 1806.09055)
_WEIGHT_DECAY = 1e-3  # of the logits, as in DARTS


class LogitUpdates:
    """Adam of the logits of the distribution.

    Its rate is such that a logit can change by `max_change` in the updates of the search: with a
    fixed rate, the logits of a short search would hardly change.
    """

    def __init__(
        self,
        distribution: Distribution,
        max_change: float,
        class_weights_K: Tensor | None = None,
    ) -> None:
        self._class_weights_K = class_weights_K
        self.distribution, self._max_change = distribution, max_change
        self._adam = torch.optim.Adam(
            distribution.parameters(), betas=_BETAS, weight_decay=_WEIGHT_DECAY
        )

    def rate(self, num_updates: float) -> float:
        """Return the learning rate of a search with this many updates of the distribution."""
        return self._max_change / max(1.0, num_updates)

    def step(
        self,
        supernet: SuperkernelSupernet,
        sample: Sample,
        x_BCHW: Tensor,
        y_B: Tensor,
        *,
        lr: float,
        entropy_bonus: float,
    ) -> None:
        """Make one update by the loss of the sampled path on images that train no weights."""
        gates_E = sample.gates_E.detach().to(x_BCHW.device).requires_grad_()
        path = supernet.path(sample.tokens_EA, gates_E)
        path.train()
        (of_gates_E,) = torch.autograd.grad(
            path_loss(path, x_BCHW, y_B, self._class_weights_K),
            [gates_E],
            materialize_grads=True,  # there is none where all edges are `none`
        )
        distributed.sum_([of_gates_E])
        of_gates_E = of_gates_E.cpu()
        of_branches_E = without_node_scale(of_gates_E, sample.tokens_EA, self.distribution.space)
        logits_ES = self.distribution.logits_ES
        (gradient_ES,) = torch.autograd.grad(
            [sample.branch_gates_E, sample.kernel_gates_E], [logits_ES], [of_branches_E, of_gates_E]
        )
        entropy = torch.stack([h_E.sum() for h_E in self.distribution.entropies().values()]).sum()
        (of_entropy_ES,) = torch.autograd.grad(entropy, [logits_ES])
        logits_ES.grad = gradient_ES - entropy_bonus * of_entropy_ES
        for group in self._adam.param_groups:
            group["lr"] = lr
        self._adam.step()

    def tensors(self) -> dict[str, Tensor]:
        return {
            **tensors_of("distribution", self.distribution),
            **optimizer_tensors("adam", self._adam),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        self.distribution.load_state_dict(checkpoint.below("distribution.", tensors))
        load_optimizer("adam", self._adam, tensors)


def without_node_scale(gradients_E: Tensor, tokens_EA: Tensor, space: SuperkernelSpace) -> Tensor:
    """Subtract from the gradients of gates their mean over the edges of a node.

    The mean is the gradient of the scale of a node's sum, which changes how confident the network
    is and not what it computes. Weights that are trained along changing paths are overconfident, so
    the gradient would reduce every operation and only `none`, which has no gradient, would be left.
    On the other axes all values are convolutions, which it would reduce alike.

    Args:
        gradients_E: of the gates of the edges.
        tokens_EA: the sampled operations; edges that are `none` have no gradient and do not count.
    """
    nodes = [(edge.cell, edge.target) for edge in space.edges]
    places = {node: place for place, node in enumerate(sorted(set(nodes)))}
    node_E = torch.tensor([places[node] for node in nodes])
    is_operation = torch.tensor([branch != "none" for branch in space.config.operations])
    is_operation_E = is_operation[tokens_EA[:, AXES.index("branch")]]
    kept_E = gradients_E * is_operation_E
    zeros_N = torch.zeros(len(places), dtype=kept_E.dtype)
    sums_N = zeros_N.index_add(0, node_E, kept_E)
    counts_N = zeros_N.index_add(0, node_E, is_operation_E.to(kept_E.dtype))
    return kept_E - (sums_N / counts_N.clamp_min(1))[node_E] * is_operation_E
