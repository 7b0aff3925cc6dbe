"""The control: random search with the same shared weights, at equal cost.

It trains the weights along uniform architectures in their final form (nodes with two edges), and
chooses the best of some uniform architectures by shared weights. Its step has fewer operations than
one of the method, so with a budget of steps it makes more of them, until both have applied as many
operations; a budget of time is the same for both. The cost of its ranking is added.
"""

import numpy as np
import torch
from torch import Tensor, nn

from nascore.data.batches import Split
from nascore.genotype import Genotype
from nascore.methods.nasib.search import BudgetSearch, space_of
from nascore.spaces.superkernel.space import KEPT, SuperkernelSpace, kept_pairs


def control_steps(space: SuperkernelSpace, steps: int, warmup: float) -> int:
    """Return the updates along single architectures that apply as many operations as a search."""
    num_kept = len(space.cell_names) * space.config.num_nodes * KEPT
    updates = steps + (1 - warmup) * steps
    return round(updates * len(space.edges) / num_kept)


class RandomControl(BudgetSearch):
    """The arm of the control: paths are uniform, and only weights are trained."""

    def halves(self) -> tuple[Split, Split]:
        """Return all training images: no distribution needs a half of them."""
        return self.context.splits.train, self.context.splits.train

    def num_steps(self) -> int | None:
        steps = super().num_steps()
        if steps is None:
            return None
        return control_steps(space_of(self.context), steps, self.options.schedule.warmup)

    def ranked(self) -> list[tuple[Genotype, float]]:
        """Return uniform architectures and their scores by shared weights, the best first."""
        rng = self.context.seeds.numpy(self.arm, "candidates")
        genotypes = [self._uniform(rng) for _ in range(self.options.num_candidates)]
        scores = self.scores(genotypes)
        order = sorted(range(len(genotypes)), key=lambda i: -scores[i])
        return [(genotypes[i], scores[i]) for i in order]

    def genotype(self) -> Genotype:
        return self._uniform(self.context.seeds.numpy(self.arm, "any"))

    def _sampled(self, stream: str, number: int, u: float) -> nn.Module:
        rng = self.context.seeds.numpy(self.arm, stream, number)
        return self._weights.supernet.child(self._uniform(rng))

    def _decide(self, x_BCHW: Tensor, y_B: Tensor, u: float) -> None:
        """Do nothing: there is no distribution."""

    def _metrics(self, u: float) -> dict[str, float]:
        return {}

    def _record(self, u: float) -> None:
        """Do nothing: there is no distribution."""

    def _eliminate(self, u: float) -> None:
        """Do nothing: no value is dropped."""

    def _uniform(self, rng: np.random.Generator) -> Genotype:
        """Return a uniform architecture among the convolutions that fit the image."""
        space, distribution = space_of(self.context), self.distribution
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        everywhere_E = torch.ones(len(space.edges), dtype=torch.bool)
        sample = distribution.sample(distribution.noise(generator), everywhere_E, temperature=1.0)
        targets = range(KEPT, KEPT + space.config.num_nodes)
        pairs = [kept_pairs(target) for _ in space.cell_names for target in targets]
        kept = [pair[int(rng.integers(len(pair)))] for pair in pairs]
        return space.genotype([tuple(row) for row in sample.tokens_EA.tolist()], kept)
