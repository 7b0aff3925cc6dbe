"""Weight updates of one training: everything between a batch and new weights.

A training continues bit for bit from what `Updates.tensors` and `Updates.to_dict` return.

B images, C channels, H = W pixels, K classes.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nascore import checkpoint
from nascore.config import TrainingConfig
from nascore.training.data_parallel import divided
from nascore.training.fine_tuning import FineTuning
from nascore.training.losses import Loss, Targets
from nascore.training.mixing import is_mixed, mix
from nascore.training.optimizers import KernelMuon, make_optimizers, parameters_of
from nascore.training.precision import Autocast, compiled, dtype_of
from nascore.training.resumable import load_optimizer, optimizer_tensors, tensors_of


class Updates:
    """The weights of a network in training, and all that changes with them.

    Args:
        network: on the device; it is trained in place.
        config: settings of the training.
        loss: of a batch.
        generator: on the CPU; gives the seed of mixed batches, if there are any.
        fine_tuning: rates and freezing of layers that start from trained weights.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        loss: Loss,
        generator: torch.Generator,
        fine_tuning: FineTuning | None = None,
    ) -> None:
        self._fine_tuning = fine_tuning
        self.network, self._config, self._loss = network, config, loss
        device = next(network.parameters()).device
        self._format = torch.channels_last if config.channels_last else torch.contiguous_format
        if config.channels_last:
            network.to(memory_format=torch.channels_last)
        self.autocast = Autocast(dtype_of(config, device), device)
        self._optimizers = make_optimizers(network, config)
        self._average: AveragedModel | None = None
        self._forward: Callable[[Tensor], Tensor] = network
        self._mixing_seed = (
            int(torch.randint(2**62, (), generator=generator)) if is_mixed(config) else None
        )

    def begin_average(self, num_steps: int) -> None:
        """Average the weights over the share `ema` of this many steps, from now on."""
        if self._config.ema > 0:
            horizon = max(1.0, self._config.ema * num_steps)
            # Running statistics of batch normalisation are averaged with the weights.
            self._average = AveragedModel(
                self.network, multi_avg_fn=get_ema_multi_avg_fn(1 - 1 / horizon), use_buffers=True
            )

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated: the average, if there is one."""
        return self.network if self._average is None else self._average.module

    def compile(self, x_BCHW: Tensor, tell: Callable[[str], None]) -> None:
        """Compile the forward pass; it stays as it is where that fails.

        Args:
            x_BCHW: any batch.
            tell: receives the reason.
        """
        before = self.tensors()

        def try_out(forward: Callable[[Tensor], Tensor]) -> None:
            with self.autocast.context():
                output = forward(x_BCHW.contiguous(memory_format=self._format))
            output.float().sum().backward()

        self.network.train()
        self._forward = compiled(self.network, try_out, tell)
        self.network.zero_grad(set_to_none=True)
        self.load(before)

    def divide(self) -> None:
        """Let all processes of the group compute the forward pass of a batch together."""
        self._forward = divided(self.network, self._forward)

    def forward(self, x_BCHW: Tensor, y_B: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and its logits (B, K).

        Args:
            x_BCHW: normalised images.
            y_B: labels.
            step: number of the batch in the training; names the random numbers of mixing.
        """
        targets = Targets(y_B)
        if self._mixing_seed is not None:
            rng = np.random.default_rng((self._mixing_seed, step))
            x_BCHW, targets = mix(x_BCHW, y_B, self._config, rng)
        if self._config.channels_last:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with self.autocast.context():
            return self._loss(self._forward, x_BCHW, targets)

    def begin_epoch(self, epoch: int) -> None:
        """Set the network to training mode, but for frozen layers."""
        self.network.train()
        if self._fine_tuning is not None:
            self._fine_tuning.begin_epoch(epoch)

    def descend(self, loss: Tensor, *, lr: float, epoch: int) -> None:
        """Make one weight update by the gradient of a loss.

        Args:
            loss: of a batch.
            lr: learning rate.
            epoch: of the training, from 0.
        """
        self.network.zero_grad(set_to_none=True)
        self.autocast.backward(loss)
        if self._fine_tuning is not None:
            self._fine_tuning.drop_gradients(epoch)
        has_muon = False
        for optimizer in self._optimizers:
            if isinstance(optimizer, KernelMuon):
                optimizer.take_gradients()
                has_muon = True
        if self._config.max_grad_norm is not None:
            for optimizer in self._optimizers:
                self.autocast.unscale(optimizer)
            clipped = parameters_of(self._optimizers) if has_muon else self.network.parameters()
            nn.utils.clip_grad_norm_(clipped, self._config.max_grad_norm)
        tuning = self._fine_tuning
        with contextlib.nullcontext() if tuning is None else tuning.slower():
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                self.autocast.step(optimizer)
        self.autocast.update()
        if self._average is not None:
            self._average.update_parameters(self.network)

    def is_finite(self) -> bool:
        """Return whether all weights are finite."""
        return all(bool(p.isfinite().all()) for p in self.network.parameters())

    def finish(self) -> None:
        """Give the network its final weights: the average, if there is one."""
        if self._average is not None:
            self.network.load_state_dict(self._average.module.state_dict())
        if self._config.channels_last:
            self.network.to(memory_format=torch.contiguous_format)

    # State.

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of all tensors on which later updates depend, by name."""
        found = tensors_of("network", self.network)
        for number, optimizer in enumerate(self._optimizers):
            found |= optimizer_tensors(f"optimizer{number}", optimizer)
        if self._average is not None:
            found |= tensors_of("average", self._average)
        return {name: tensor.detach().clone() for name, tensor in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the values on which later updates depend, as JSON."""
        return {"autocast": self.autocast.to_dict(), "mixing_seed": self._mixing_seed}

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> None:
        """Continue from what `tensors` and `to_dict` returned."""
        self.network.load_state_dict(checkpoint.below("network.", tensors))
        for number, optimizer in enumerate(self._optimizers):
            load_optimizer(f"optimizer{number}", optimizer, tensors)
        if self._average is not None:
            self._average.load_state_dict(checkpoint.below("average.", tensors))
        if values is not None:
            self.autocast.load(values["autocast"])
            self._mixing_seed = values["mixing_seed"]
