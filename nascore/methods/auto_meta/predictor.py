"""Predicts the rank of a cell from its blocks: an ensemble of LSTMs for cells of any length.

Trained on cells of up to b blocks, it ranks cells of b + 1 blocks. Source: the predictor of PNAS
(arXiv 1712.00559), as in the code of titu1994/progressive-neural-architecture-search: each half of
a block is one step of an LSTM, whose input is the embeddings of node and operation, concatenated; a
linear layer and a sigmoid follow its last state. Our choices: the mean of five members, each
trained on a different four fifths of the data; full batches; targets standardised per stage, since
the sigmoid would saturate where all accuracies are similar. A prediction is therefore a rank among
cells of equal length, not an accuracy.

Shapes: N cells, S halves of blocks, H units of the LSTM.
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
        num_members: each leaves out a different part of the data, a `num_members`-th of it.
        embedding, hidden: sizes of an embedding, and of the state of the LSTM.
        num_steps: updates by Adam, on all data of a member at once.
    """

    num_members: int = 5
    embedding: int = 20
    hidden: int = 32
    num_steps: int = 80
    learning_rate: float = 0.01
    weight_decay: float = 1e-4


def standardised(cells: Sequence[Cell], accuracies: Sequence[float]) -> NDArray[np.float64]:
    """Return targets in (0, 1): accuracies standardised per stage, through the logistic function.

    A stage is the cells of one number of blocks; where all of its accuracies are equal, 0.5.
    """
    values, stages = np.asarray(accuracies, float), np.array([len(cell) for cell in cells])
    targets = np.empty_like(values)
    for stage in np.unique(stages):
        own = values[stages == stage]
        spread = own.std()
        targets[stages == stage] = (own - own.mean()) / spread if spread > 0 else 0.0
    chances: NDArray[np.float64] = 1 / (1 + np.exp(-targets))
    return chances


class Member(nn.Module):
    """One predictor: nodes (N, S) and operations (N, S) to values (N,) in (0, 1)."""

    def __init__(self, num_nodes: int, num_operations: int, settings: PredictorSettings) -> None:
        super().__init__()
        self.node = nn.Embedding(num_nodes, settings.embedding)
        self.operation = nn.Embedding(num_operations, settings.embedding)
        self.lstm = nn.LSTM(2 * settings.embedding, settings.hidden, batch_first=True)
        self.head = nn.Linear(settings.hidden, 1)

    def forward(self, node_NS: Tensor, operation_NS: Tensor, length_N: Tensor) -> Tensor:
        """Return the values of cells.

        Args:
            node_NS: input of each half of a block.
            operation_NS: operation of each half.
            length_N: halves of each cell; entries after them are ignored.
        """
        steps_NSE = torch.cat([self.node(node_NS), self.operation(operation_NS)], dim=2)
        states_NSH, _ = self.lstm(steps_NSE)
        last_NH = states_NSH[torch.arange(len(length_N)), length_N - 1]
        values_N: Tensor = self.head(last_NH).squeeze(1).sigmoid()
        return values_N


class CellPredictor:
    """Fits to cells with their accuracies, and ranks other cells."""

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
            max_blocks: largest number of blocks of a cell.
            num_operations: a cell names them 0..num_operations-1.
            seeds: of initial weights and parts of the data.
        """
        self._settings = settings or PredictorSettings()
        self._sizes = NUM_INPUTS + max_blocks - 1, num_operations
        self._seeds = seeds
        self._members: list[Member] = []

    def fit(self, cells: Sequence[Cell], accuracies: Sequence[float]) -> None:
        """Train new members; they depend on the data and the seeds alone.

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
        """Return the mean of the members, (N,) in (0, 1); equal for equal cells.

        Raises:
            ValueError: the predictor was not fitted.
        """
        if not self._members:
            raise ValueError("fit the predictor before it predicts")
        inputs = _tokens(cells)
        values: NDArray[np.float64] = (
            torch.stack([member(*inputs) for member in self._members]).double().mean(0).numpy()
        )
        return values


def _tokens(cells: Sequence[Cell]) -> tuple[Tensor, Tensor, Tensor]:
    """Return nodes and operations, (N, S), padded with zeros, and lengths (N,)."""
    rows = [torch.tensor([half for block in least_order(cell) for half in block]) for cell in cells]
    padded_NS2 = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded_NS2[..., 0], padded_NS2[..., 1], torch.tensor([len(row) for row in rows])
