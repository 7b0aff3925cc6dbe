"""The checkpoint of a long training that can be resumed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nascore import checkpoint
from nascore.errors import CheckpointError, InputError


class TrainingCheckpoint:
    """The checkpoint of a training, and the wall seconds that the training has cost.

    Args:
        identity: settings on which the training depends; a checkpoint with others is refused.
        every_s: seconds between two checkpoints.
        prior_cost_s: seconds that were spent before on work that is not in the checkpoint.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        identity: Mapping[str, Any],
        *,
        every_s: float,
        prior_cost_s: float = 0.0,
    ) -> None:
        self._path, self._kind, self._identity = path, kind, dict(identity)
        self._every_s, self._before_s = every_s, prior_cost_s
        self._start = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall seconds of the training, those before a crash included."""
        return self._before_s + time.monotonic() - self._start

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and metadata of the last checkpoint; None when there is none.

        Raises:
            InputError: it is damaged, or of another training.
        """
        if not self._path.exists():
            return None
        try:
            tensors, meta = checkpoint.load(self._path, self._kind)
        except CheckpointError as error:
            raise InputError.of(
                "checkpoint", self._path, f"{error}; delete it to start again"
            ) from error
        if meta["identity"] != self._identity:
            raise InputError.of(
                "checkpoint",
                self._path,
                "is of a search with other settings; use another folder, or delete it to start "
                "again",
            )
        self._before_s, self._start = float(meta["seconds"]), time.monotonic()
        return tensors, meta

    def is_due(self) -> bool:
        """Return whether the last checkpoint is `every_s` old."""
        return time.monotonic() - self._saved >= self._every_s

    def save(self, tensors: Mapping[str, Tensor], **meta: Any) -> None:
        """Write a checkpoint with these tensors and metadata."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(
            self._path,
            tensors,
            {**meta, "identity": self._identity, "seconds": self.seconds},
            self._kind,
        )
        self._saved = time.monotonic()


def tensors_of(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network by name: `prefix.layer.weight`."""
    return {f"{prefix}.{name}": value for name, value in network.state_dict().items()}


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser by parameter number: `prefix.0.exp_avg`."""
    return {
        f"{prefix}.{number}.{key}": value
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Load what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in checkpoint.below(f"{prefix}.", tensors).items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
