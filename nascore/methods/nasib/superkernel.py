"""Superkernels: one weight tensor holds every convolution of an edge.

A convolution of a smaller size is the centre of the largest kernel, cropped before it is applied:
a 1x1 has the cost of a 1x1. All dilations share the weights. Standard convolutions share a
tensor of their own, and separable ones a depthwise tensor and a pointwise one. Tensors are
(B, C, H, W).

Each convolution has its own batch norm without weights: in a supernet it normalises by the current
batch, so by the statistics of the convolution that ran, and the size of a kernel cannot win by its
scale. A learned scale for each would be trained in one step of a hundred and would not be shared.
In final training batch norms scale and shift.

Source: single-path NAS (arXiv 1904.02877), where the choice is a threshold on the outer ring.
Departures: a choice for each axis, and crops instead of masks.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from nascore.spaces import ops
from nascore.spaces.superkernel.config import SuperkernelSpaceConfig
from nascore.spaces.superkernel.network import Convolution


class CroppedConv(nn.Module):
    """The convolution with the centre of a kernel that it shares with others.

    Its state dict contains the crop, so it is that of a plain convolution of this size.

    Args:
        weight: (out, in / groups, K, K), K odd and not less than `size`.
        size: height and width of the crop in pixels, odd.
    """

    def __init__(
        self, weight: nn.Parameter, size: tuple[int, int], *, dilation: int, groups: int
    ) -> None:
        super().__init__()
        self.weight = weight
        self.dilation, self.groups = dilation, groups
        self.padding = (dilation * (size[0] // 2), dilation * (size[1] // 2))
        top, left = (weight.shape[2] - size[0]) // 2, (weight.shape[3] - size[1]) // 2
        self._rows, self._columns = slice(top, top + size[0]), slice(left, left + size[1])
        self.register_state_dict_post_hook(_crop_in_state_dict)  # type: ignore[no-untyped-call]

    def crop(self, weight: Tensor) -> Tensor:
        """Return a view of the centre."""
        return weight[:, :, self._rows, self._columns]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.conv2d(
            x_BCHW,
            self.crop(self.weight),
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


def _crop_in_state_dict(
    module: Any, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    state[f"{prefix}weight"] = module.crop(state[f"{prefix}weight"])


class Superkernel(nn.Module):
    """The weights of all convolutions of one edge, and each of them as a module.

    Attributes:
        standard: (C, C, K, K), K the largest size; absent if the space has no such convolution.
        depthwise, pointwise: (C, 1, K, K) and (C, C, 1, 1), likewise.
    """

    def __init__(self, config: SuperkernelSpaceConfig, channels: int) -> None:
        super().__init__()
        largest = config.kernel_sizes[-1]
        self._channels = channels
        self._made: dict[Convolution, nn.Sequential] = {}
        if "standard" in config.types:
            self.standard = _weight(ops.conv(channels, channels, largest))
        if "separable" in config.types:
            self.depthwise = _weight(ops.conv(channels, channels, largest, groups=channels))
            self.pointwise = _weight(ops.conv(channels, channels, 1))

    def convolution(self, one: Convolution) -> nn.Sequential:
        """Return ReLU, convolution and batch norm on the shared weights; always the same module.

        Its state dict fits `nascore.spaces.superkernel.network.convolution` of the search phase,
        with a batch norm that normalises by the batch.
        """
        if one not in self._made:
            norm = nn.BatchNorm2d(self._channels, affine=False, track_running_stats=False)
            self._made[one] = nn.Sequential(nn.ReLU(), *self._layers(one), norm)
        return self._made[one]

    def _layers(self, one: Convolution) -> list[nn.Module]:
        size = (one.height, one.width)
        if one.kind == "standard":
            return [CroppedConv(self.standard, size, dilation=one.dilation, groups=1)]
        return [
            CroppedConv(self.depthwise, size, dilation=one.dilation, groups=self._channels),
            CroppedConv(self.pointwise, (1, 1), dilation=1, groups=1),
        ]


def _weight(layer: nn.Conv2d) -> nn.Parameter:
    """Return the initial weights of a layer, of which only crops are used."""
    return nn.Parameter(layer.weight.detach())
