"""One tensor for all convolutions of an edge: what is shared, and what a convolution costs."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import pytest
import torch
from timing import Pair, cost_ratio
from torch import Tensor, nn
from torch.func import replace_all_batch_norm_modules_
from torch.nn import functional as F

from nascore.methods.nasib.superkernel import Superkernel
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.network import Convolution, convolution
from nascore.spaces.superkernel.space import SuperkernelSpace

CONFIG = SuperkernelSpaceConfig()
CANDIDATES = SuperkernelSpace(CONFIG).convolutions()
NAMES = [f"{kind}{h}x{w}d{d}" for kind, h, w, d in product("sd", *[CONFIG.kernel_sizes] * 2, "123")]
CHANNELS = 8
DARTS_OPERATIONS = 8


@pytest.fixture
def superkernel() -> Superkernel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Superkernel(CONFIG, CHANNELS)


def images(*, seed: int = 0, batch: int = 4, size: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, size, size, generator=generator)


def centre(weight: Tensor, height: int, width: int) -> Tensor:
    """Written apart from the code that is tested: rows and columns around the middle one."""
    middle = weight.shape[-1] // 2
    rows = range(middle - height // 2, middle + height // 2 + 1)
    columns = range(middle - width // 2, middle + width // 2 + 1)
    return weight[:, :, list(rows)][:, :, :, list(columns)]


def normalised(x_BCHW: Tensor) -> Tensor:
    mean, var = x_BCHW.mean((0, 2, 3), True), x_BCHW.var((0, 2, 3), False, keepdim=True)
    return (x_BCHW - mean) / torch.sqrt(var + 1e-5)


def plain(one: Convolution, *, channels: int = CHANNELS) -> nn.Module:
    """The same convolution with weights of its own."""
    return replace_all_batch_norm_modules_(convolution(one, channels, affine=False))


def test_an_edge_has_twelve_times_the_operations_of_darts() -> None:
    assert len(CANDIDATES) == CONFIG.num_convolutions == 12 * DARTS_OPERATIONS == len(NAMES)


# --- sharing --------------------------------------------------------------------------------


@pytest.mark.parametrize("one", CANDIDATES, ids=NAMES)
def test_a_convolution_is_the_centre_of_the_shared_kernel(
    one: Convolution, superkernel: Superkernel
) -> None:
    x_BCHW = images()
    padding = [one.dilation * (k - 1) // 2 for k in (one.height, one.width)]
    shared = superkernel.standard if one.kind == "standard" else superkernel.depthwise
    expected = F.conv2d(
        x_BCHW.relu(),
        centre(shared, one.height, one.width),
        padding=padding,
        dilation=one.dilation,
        groups=1 if one.kind == "standard" else CHANNELS,
    )
    if one.kind == "separable":
        expected = F.conv2d(expected, superkernel.pointwise)
    found = superkernel.convolution(one)(x_BCHW)
    assert found.shape == x_BCHW.shape
    assert (found - normalised(expected)).abs().max() < 1e-5


@pytest.mark.parametrize("one", CANDIDATES, ids=NAMES)
def test_a_step_changes_what_a_convolution_uses_and_no_other_bit(
    one: Convolution, superkernel: Superkernel
) -> None:
    before = {name: p.detach().clone() for name, p in superkernel.named_parameters()}
    optimizer = torch.optim.SGD(superkernel.parameters(), lr=0.1)
    target = images(seed=1)  # not symmetric: else no gradient comes through a batch norm
    # Large maps, so that some pixel sees every corner of the dilated kernel.
    (superkernel.convolution(one)(images()) * target).sum().backward()
    optimizer.step()
    used = {"standard"} if one.kind == "standard" else {"depthwise", "pointwise"}
    for name, parameter in superkernel.named_parameters():
        changed = parameter.detach() != before[name]
        if name not in used:
            assert not changed.any()
        elif name == "pointwise":
            assert changed.all()
        else:
            inside = torch.zeros_like(changed)
            centre_of = centre(torch.arange(49).view(1, 1, 7, 7), one.height, one.width)
            inside.flatten(2)[:, :, centre_of.flatten()] = True
            assert not changed[~inside].any(), "the outer ring is as it was, to the bit"
            assert changed[inside].float().mean() > 0.5


def test_weights_of_an_edge_are_fewer_than_those_of_two_and_a_half_convolutions() -> None:
    for channels in (4, 8, 16, 36):
        largest = max(_num_weights(plain(one, channels=channels)) for one in CANDIDATES)
        assert _num_weights(Superkernel(CONFIG, channels)) < 2.5 * largest


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_convolutions_of_one_size_and_any_dilation_have_the_same_weights(
    superkernel: Superkernel,
) -> None:
    one, other = (superkernel.convolution(Convolution("standard", 3, 5, d)) for d in (1, 3))
    assert {id(p) for p in one.parameters()} == {id(p) for p in other.parameters()}
    assert superkernel.convolution(Convolution("standard", 3, 5, 1)) is one


def test_a_space_without_a_type_has_no_weights_for_it() -> None:
    only = CONFIG.model_copy(update={"types": ("separable",), "kernel_sizes": (1, 3)})
    names = {name: tuple(p.shape) for name, p in Superkernel(only, 4).named_parameters()}
    assert names == {"depthwise": (4, 1, 3, 3), "pointwise": (4, 4, 1, 1)}


@pytest.mark.parametrize("one", CANDIDATES[::5], ids=NAMES[::5])
def test_a_plain_convolution_takes_over_the_weights(
    one: Convolution, superkernel: Superkernel
) -> None:
    shared, own = superkernel.convolution(one), plain(one)
    assert not torch.equal(shared(images()), own(images()))
    own.load_state_dict(shared.state_dict())
    torch.testing.assert_close(shared(images()), own(images()), rtol=0, atol=1e-6)


def test_size_does_not_decide_by_its_scale(superkernel: Superkernel) -> None:
    deviations = [superkernel.convolution(one)(images()).std().item() for one in CANDIDATES]
    assert max(deviations) < 1.01 * min(deviations)


# --- cost -----------------------------------------------------------------------------------


def _step(module: nn.Module, x_BCHW: Tensor) -> None:
    module(x_BCHW).square().mean().backward()


@pytest.mark.timing
@pytest.mark.parametrize("kind", CONFIG.types)
def test_a_step_costs_what_the_plain_convolution_costs(kind: str, one_thread: None) -> None:
    """Forward and backward."""
    chosen = [one for one in CANDIDATES if one.kind == kind and one.dilation == 1]
    superkernel = Superkernel(CONFIG, 16)
    x_BCHW = torch.randn(64, 16, 16, 16, requires_grad=True)

    def pairs(_attempt: int) -> Iterator[Pair]:
        for one in chosen:
            crop, alone = superkernel.convolution(one), plain(one, channels=16)
            _step(alone, x_BCHW)  # the first call of a shape chooses an algorithm
            for module in (crop, alone):
                module.zero_grad()
            yield partial(_step, crop, x_BCHW), partial(_step, alone, x_BCHW)

    assert cost_ratio(pairs, enough=1.1) <= 1.15


def test_a_one_by_one_costs_a_one_by_one(one_thread: None) -> None:
    """Multiplications of the largest kernel would be 49 times as many; counted, not timed."""
    from torch.utils.flop_counter import FlopCounterMode

    superkernel, flops = Superkernel(CONFIG, CHANNELS), []
    for size in (1, 7):
        with FlopCounterMode(display=False) as counter:
            superkernel.convolution(Convolution("standard", size, size, 1))(images())
        flops.append(counter.get_total_flops())
    assert flops[1] == 49 * flops[0] > 0


@pytest.mark.parametrize("one", CANDIDATES[::7], ids=NAMES[::7])
def test_memory_above_the_weights_is_that_of_the_plain_convolution(
    one: Convolution, superkernel: Superkernel
) -> None:
    x_BCHW = images(batch=32)
    shared = _bytes_saved(superkernel.convolution(one), x_BCHW)
    assert shared <= 1.1 * _bytes_saved(plain(one), x_BCHW)


def _bytes_saved(module: nn.Module, x_BCHW: Tensor) -> int:
    """What the backward pass keeps that is no weight."""
    of_weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved: dict[int, int] = {}
    kept = []  # alive, so that no address is taken twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in of_weights:
            saved[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _step(module, x_BCHW)
    assert saved
    return sum(saved.values())
