"""Precision of forward and backward passes, and compilation."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from nascore.config import TrainingConfig
from nascore.errors import InputError

_log = logging.getLogger(__name__)


def dtype_of(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """Return the type in which the forward pass of a training computes.

    `auto` is bfloat16 on GPUs that compute with it, float16 on other GPUs, float32 on CPUs.

    Raises:
        InputError: float16 on a CPU, where it is many times slower.
    """
    if config.precision == "fp16" and device.type == "cpu":
        message = "needs a GPU; set it to auto, bf16 or fp32"
        raise InputError.of("training.precision", "fp16", message)
    if config.precision == "auto":
        if device.type != "cuda":
            return torch.float32
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float16
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


class Autocast:
    """Mixed precision of one training, with scaled losses where gradients could underflow.

    Attributes:
        dtype: of the forward pass.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self._device = dtype, device
        self._scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    @property
    def is_on(self) -> bool:
        """Whether the forward pass computes with less than single precision."""
        return self.dtype != torch.float32

    def context(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        return torch.autocast(self._device.type, self.dtype) if self.is_on else nullcontext()

    def turn_off(self) -> None:
        """Compute in single precision from now on."""
        self.__init__(torch.float32, self._device)  # type: ignore[misc]

    def backward(self, loss: Tensor) -> None:
        """Compute gradients of a loss, scaled if losses are."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the loss itself."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters, unless a scaled gradient has overflowed."""
        self._scaler.step(optimizer)

    def update(self) -> None:
        """Adapt the scale after the step of all optimisers."""
        self._scaler.update()

    def to_dict(self) -> dict[str, Any]:
        """Return what `load` needs, as JSON."""
        return {"dtype": str(self.dtype), "scaler": self._scaler.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `to_dict` returned."""
        if state["dtype"] == str(torch.float32):
            self.turn_off()
        elif state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])


def compiled(
    network: nn.Module,
    try_out: Callable[[Callable[[Tensor], Tensor]], None],
    tell: Callable[[str], None],
) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of a network as `torch.compile` makes it, or the network itself.

    Args:
        network: in training mode.
        try_out: makes a forward and a backward pass, which is when the compiler works.
        tell: receives a sentence about why the network is not compiled.
    """
    # One program for each shape: programs for any shape would depend on the order of the shapes,
    # which a resumed training does not repeat.
    program: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    try:
        try_out(program)
    except Exception as error:  # the compiler raises errors of every kind, also those of a linker
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        tell(f"torch.compile failed, so the network is trained without it: {reason}")
        return network
    return program
