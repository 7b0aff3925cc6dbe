"""What a cell will be worth, told from its blocks: an ensemble of LSTMs that read any length.

Trained on cells of up to b blocks, it has to rank cells of b + 1. Source: the predictor of PNAS
(arXiv 1712.00559), as in the code of titu1994/progressive-neural-architecture-search: of each half
of a block the embeddings of input and operation, joined, are one step of an LSTM; a linear layer
and a sigmoid on its last state. Choices of ours: five members, each trained on four fifths of the
data, whose mean counts; whole batches; and targets standardised per stage, since the sigmoid would
saturate where all accuracies are alike. So a prediction is a rank among cells of its length, and no
accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.seeding import Seeds, seeded_weights
from nascore.spaces.blocks import Cell, least_order
from nascore.spaces.cells import NUM_INPUTS


@dataclass(frozen=True, slots=True)
class PredictorSettings:
    """Size and training of the ensemble.

    Attributes:
        num_members: each leaves out another part of the data, a whole `num_members`-th.
        embedding, hidden: sizes of an embedding, and of the state of the LSTM.
        num_steps: of Adam, on all data of a member at once.
    """

    num_members: int = 5
    embedding: int = 20
    hidden: int = 32
    num_steps: int = 80
    learning_rate: float = 0.01
    weight_decay: float = 1e-4


def standardised(cells: Sequence[Cell], accuracies: Sequence[float]) -> NDArray[np.float64]:
    """Targets in (0, 1): accuracies less the mean of their stage, in its deviations, through the
    logistic function. A stage is the cells of one number of blocks; where all are alike, 0.5."""
    values, stages = np.asarray(accuracies, float), np.array([len(cell) for cell in cells])
    targets = np.empty_like(values)
    for stage in np.unique(stages):
        own = values[stages == stage]
        spread = own.std()
        targets[stages == stage] = (own - own.mean()) / spread if spread > 0 else 0.0
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-targets))
    return chances


class Member(nn.Module):
    """One predictor: nodes (N, S) and operations (N, S) of S halves to values (N,) in (0, 1)."""

    def __init__(self, num_nodes: int, num_operations: int, settings: PredictorSettings) -> None:
        super().__init__()
        self.node = nn.Embedding(num_nodes, settings.embedding)
        self.operation = nn.Embedding(num_operations, settings.embedding)
        self.lstm = nn.LSTM(2 * settings.embedding, settings.hidden, batch_first=True)
        self.head = nn.Linear(settings.hidden, 1)

    def forward(self, node_NS: Tensor, operation_NS: Tensor, length_N: Tensor) -> Tensor:
        """`length_N` is the halves of each cell; what stands behind them is not read."""
        steps_NSE = torch.cat([self.node(node_NS), self.operation(operation_NS)], dim=2)
        states_NSH, _ = self.lstm(steps_NSE)
        last_NH = states_NSH[torch.arange(len(length_N)), length_N - 1]
        values_N: Tensor = self.head(last_NH).squeeze(1).sigmoid()
        return values_N


class CellPredictor:
    """Fits on cells with their accuracies, and gives others a value by which to rank them."""

    def __init__(
        self,
        max_blocks: int,
        num_operations: int,
        *,
        seeds: Seeds,
        settings: PredictorSettings | None = None,
    ) -> None:
        """
        Args:
            num_operations: that there are; a cell names them 0..num_operations-1.
        """
        self._settings = settings or PredictorSettings()
        self._sizes = NUM_INPUTS + max_blocks - 1, num_operations
        self._seeds = seeds
        self._members: list[Member] = []

    def fit(self, cells: Sequence[Cell], accuracies: Sequence[float]) -> None:
        """Trains new members on all that is known; depends on the data and the seeds alone.

        Raises:
            ValueError: there are fewer cells than members.
        """
        number = self._settings.num_members
        if len(cells) < number:
            raise ValueError(f"{number} predictors need at least as many cells, got {len(cells)}")
        inputs = _tokens(cells)
        targets = torch.tensor(standardised(cells, accuracies), dtype=torch.float32)
        part = self._seeds.numpy("predictor", "parts", len(cells)).permutation(len(cells)) % number
        self._members = []
        for member in range(number):
            kept = torch.from_numpy(part != member if number > 1 else part == 0)
            own = tuple(x[kept] for x in inputs)
            self._members.append(self._trained(member, own, targets[kept], len(cells)))

    def _trained(
        self, number: int, inputs: tuple[Tensor, ...], targets: Tensor, num_known: int
    ) -> Member:
        settings = self._settings
        with seeded_weights(self._seeds.integer("predictor", "weights", num_known, number)):
            member = Member(*self._sizes, settings)
        optimiser = torch.optim.Adam(
            member.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        for _ in range(settings.num_steps):
            optimiser.zero_grad()
            F.mse_loss(member(*inputs), targets).backward()
            optimiser.step()
        return member

    @torch.no_grad()
    def predict(self, cells: Sequence[Cell]) -> NDArray[np.float64]:
        """(N,) in (0, 1), the mean of the members; equal for equal cells, in whatever order.

        Raises:
            ValueError: it was not fitted.
        """
        if not self._members:
            raise ValueError("fit the predictor before it predicts")
        inputs = _tokens(cells)
        values: NDArray[np.float64] = (
            torch.stack([member(*inputs) for member in self._members]).double().mean(0).numpy()
        )
        return values


def _tokens(cells: Sequence[Cell]) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes and operations, (N, S), with zeros behind shorter cells, and lengths (N,)."""
    rows = [torch.tensor([half for block in least_order(cell) for half in block]) for cell in cells]
    padded_NS2 = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded_NS2[..., 0], padded_NS2[..., 1], torch.tensor([len(row) for row in rows])
