"""Training of one network by the processes of a group, each on its part of every batch.

The batch is global: `batch_size` images are divided among the processes, so an update is that of
one process within rounding, whatever their number, and neither rate nor number of updates changes.
All processes make the same batches from the same random stream, and all have the logits of the
whole batch, so that loss, accuracy and checks are those of one process. Batch normalisation uses
the statistics of the whole batch.
"""

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nascore.threads import thread_limit
from nascore.training import distributed

Forward = Callable[[Tensor], Tensor]
_BatchNorm = nn.modules.batchnorm._BatchNorm


class GroupStopped(Exception):
    """Another process of the group has ended the training."""


def divided(network: nn.Module, run: Forward | None = None) -> Forward:
    """Return a forward pass by all processes of the group; in a group of one that of the network.

    Its backward pass gives the parameters of the network the gradients of the whole batch. Call it
    within `whole_batch_norms`.

    Args:
        network: with the same weights in all processes; its parameters are trained.
        run: called instead of the network, such as a compiled form of it.
    """
    run = network if run is None else run
    return _Divided(network, run) if distributed.trains_together() else run


class _Divided:
    """(B, C, H, W) -> logits (B, num_classes), each row by one process.

    A batch with fewer images than processes is computed by each of them.
    """

    def __init__(self, network: nn.Module, run: Forward) -> None:
        with warnings.catch_warnings():
            # Its new name is missing in torch 2.9; statistics are the same in all processes.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            self._parallel = DistributedDataParallel(_Called(network, run), broadcast_buffers=False)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        if len(x_BCHW) < distributed.size():
            whole_BK: Tensor = self._parallel(x_BCHW)
            return whole_BK
        parts = x_BCHW.tensor_split(distributed.size())
        own_BK = self._parallel(parts[distributed.rank()])
        return _gathered(own_BK, [len(part) for part in parts])


class _Called(nn.Module):
    """A module with the parameters of a network and another forward pass."""

    def __init__(self, network: nn.Module, run: Forward) -> None:
        super().__init__()
        self.network = network
        self._run = [run]  # in a list, since it may be a module with the same parameters

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self._run[0](x_BCHW)


def _gathered(own: Tensor, counts: list[int]) -> Tensor:
    """Return the rows of all processes; gradients flow into those of this one."""
    rank, most = distributed.rank(), max(counts)
    sent = own.new_zeros((most, *own.shape[1:]))
    sent[: len(own)] = own.detach()
    received = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(received, sent)
    rows = [part[:count] for part, count in zip(received, counts, strict=True)]
    if own.requires_grad:
        # The gradients of parameters are averaged over processes, and their sum is wanted.
        own.register_hook(lambda grad: grad * len(counts))
    rows[rank] = own
    return torch.cat(rows)


class _Summed(torch.autograd.Function):
    """Sum over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(x)
    return total


class CpuSyncBatchNorm(_BatchNorm):
    """Batch normalisation over the parts of all processes on CPUs; torch has it for GPUs only."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x (B, C, ...)."""
        if not self.training:
            normalised: Tensor = super().forward(x)
            return normalised
        given, x = x.dtype, x.float()
        over = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = torch.tensor([x.numel() / x.shape[1]])
        dist.all_reduce(count)
        mean_C = _summed(x.sum(over)) / count
        centred = x - mean_C.view(shape)
        var_C = _summed(centred.square().sum(over)) / count
        if self.track_running_stats:
            self._track(mean_C.detach(), var_C.detach() * count / (count - 1))
        x = centred * torch.rsqrt(var_C + self.eps).view(shape)
        if self.affine:
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return x.to(given)

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # the normalisation that this one replaces has the same input

    def _track(self, mean_C: Tensor, var_C: Tensor) -> None:
        """Update the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(var_C, share)


@contextlib.contextmanager
def whole_batch_norms(network: nn.Module) -> Iterator[None]:
    """Let batch normalisations use the whole batch of the group, and divide the threads of a CPU.

    The tensors of the normalisations stay the same.
    """
    if not distributed.trains_together():
        yield
        return
    on_cpu = next(network.parameters()).device.type == "cpu"
    threads = max(1, torch.get_num_threads() // distributed.size()) if on_cpu else None
    with thread_limit(threads), _replaced_norms(network):
        yield


@contextlib.contextmanager
def _replaced_norms(network: nn.Module) -> Iterator[None]:
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                replaced.append((parent, name, child))
                setattr(parent, name, _whole(child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child.train(parent.training))


def _whole(norm: _BatchNorm) -> _BatchNorm:
    """Return a normalisation over all processes with the tensors of another."""
    on_gpu = next(itertools.chain(norm.parameters(), norm.buffers())).is_cuda
    made = (nn.SyncBatchNorm if on_gpu else CpuSyncBatchNorm)(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    made._parameters, made._buffers = norm._parameters, norm._buffers
    return made.train(norm.training)


# --- decisions of the first process -----------------------------------------------------------


def agreed_stop(should_stop: Callable[[], bool] | None) -> Callable[[], bool] | None:
    """Return a function that answers in all processes what `should_stop` answers in the first."""
    if not distributed.trains_together():
        return should_stop

    def asked() -> bool:
        own = distributed.is_first() and should_stop is not None and should_stop()
        return bool(distributed.agree(float(own), device=distributed.CPU))

    return asked


def agreed_epoch(
    on_epoch: Callable[[int, float | None], None] | None,
) -> Callable[[int, float | None], None] | None:
    """Return a function that calls `on_epoch` in the first process, and ends all if it raises.

    Raises:
        GroupStopped: in the other processes.
    """
    if not distributed.trains_together():
        return on_epoch

    def called(epoch: int, score: float | None) -> None:
        error: BaseException | None = None
        if distributed.is_first() and on_epoch is not None:
            try:
                on_epoch(epoch, score)
            except (
                BaseException
            ) as raised:  # whatever it is, the others would wait for this process
                error = raised
        if distributed.agree(float(error is not None), device=distributed.CPU):
            raise error or GroupStopped

    return called
