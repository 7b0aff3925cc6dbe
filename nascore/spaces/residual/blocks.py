"""Blocks of residual networks: (B, C, H, W) -> (B, out_channels, H / stride, W / stride).

| kind | body | shortcut |
| --- | --- | --- |
| `plain` | k x k convolution | none |
| `basic` | two k x k convolutions (ResNet-18, arXiv 1512.03385) | yes |
| `bottleneck` | 1x1 to a quarter of the channels, k x k, 1x1 (ResNet-50) | yes |
| `inverted3`, `inverted6` | 1x1 to 3 or 6 times the channels, depthwise k x k, 1x1 | same shape |

`inverted` is the block of MobileNetV2 (arXiv 1801.04381), which has a shortcut only where input and
output have the same shape. Every convolution has a normalisation behind it and an activation behind
that, except the last one of a body with a shortcut: there the activation follows the sum (basic,
bottleneck), or there is none (inverted). Squeeze-and-excitation (arXiv 1709.01507) scales the
output of the body, with a quarter of the channels in between, at least eight.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torchvision.ops import SqueezeExcitation

from nascore.spaces import ops

_CHANNELS_OF_GROUP = 4
_LEAST_SQUEEZED = 8  # channels between the two layers of squeeze-and-excitation
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}


@dataclass(frozen=True, slots=True)
class Style:
    """Normalisation and activation of a network, by their names in the space."""

    norm: str
    activation: str

    def make_norm(self, channels: int) -> nn.Module:
        """Return a normalisation; groups have four channels."""
        if self.norm == "batch":
            return nn.BatchNorm2d(channels)
        return nn.GroupNorm(channels // _CHANNELS_OF_GROUP, channels)

    def make_activation(self) -> nn.Module:
        """Return an activation function."""
        return _ACTIVATIONS[self.activation]()


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Channels and stride of one block, kernel size in pixels, whether it has squeeze-excite."""

    in_channels: int
    out_channels: int
    stride: int
    kernel: int
    squeeze: bool

    @property
    def keeps_shape(self) -> bool:
        """Whether the output has the shape of the input."""
        return self.stride == 1 and self.in_channels == self.out_channels


def rounded(channels: float) -> int:
    """Return the nearest multiple of four, at least four: groups have four channels."""
    step = _CHANNELS_OF_GROUP
    return max(step, round(channels / step) * step)


def conv_norm(
    channels: tuple[int, int], kernel: int, style: Style, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias, and the normalisation behind it.

    Args:
        channels: of the input and of the output.
        kernel: height and width in pixels.
        style: normalisation of the network.
        stride: of the convolution.
        groups: of the convolution; the number of channels for a depthwise one.
    """
    convolution = ops.conv(*channels, kernel, stride=stride, groups=groups)
    return [convolution, style.make_norm(channels[1])]


def make_block(kind: str, shape: BlockShape, style: Style) -> nn.Module:
    """Return a new block with initial weights.

    Args:
        kind: one of `nascore.spaces.residual.config.BLOCKS`.
        shape: channels, stride, kernel.
        style: normalisation and activation.
    """
    body = _body(kind, shape, style)
    if shape.squeeze:
        body.append(SqueezeExcitation(shape.out_channels, _squeezed(shape.out_channels)))
    if kind == "plain":
        return nn.Sequential(*body, style.make_activation())
    if kind.startswith("inverted"):
        module = nn.Sequential(*body)
        return ops.Sum(module, nn.Identity()) if shape.keeps_shape else module
    return nn.Sequential(
        ops.Sum(nn.Sequential(*body), _shortcut(shape, style)), style.make_activation()
    )


@dataclass(frozen=True, slots=True)
class _Convolution:
    """One convolution of a body; its groups are 1, or the number of channels if depthwise."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def num_params(self) -> int:
        """Weights of the convolution and of the normalisation behind it."""
        inputs = 1 if self.depthwise else self.in_channels
        return self.out_channels * (inputs * self.kernel**2 + 2)


def _convolutions(kind: str, shape: BlockShape) -> tuple[_Convolution, ...]:
    before, after, kernel, stride = (
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        shape.stride,
    )
    if kind == "plain":
        return (_Convolution(before, after, kernel, stride),)
    if kind == "basic":
        return (_Convolution(before, after, kernel, stride), _Convolution(after, after, kernel))
    is_bottleneck = kind == "bottleneck"
    inner = rounded(after / 4) if is_bottleneck else before * int(kind.removeprefix("inverted"))
    return (
        _Convolution(before, inner, 1),
        _Convolution(inner, inner, kernel, stride, depthwise=not is_bottleneck),
        _Convolution(inner, after, 1),
    )


def _body(kind: str, shape: BlockShape, style: Style) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for one in _convolutions(kind, shape):
        if modules:
            modules.append(style.make_activation())
        modules += conv_norm(
            (one.in_channels, one.out_channels),
            one.kernel,
            style,
            stride=one.stride,
            groups=one.in_channels if one.depthwise else 1,
        )
    return modules


def num_params(kind: str, shape: BlockShape) -> int:
    """Return the parameters of a block, without building it."""
    total = sum(one.num_params for one in _convolutions(kind, shape))
    if kind in ("basic", "bottleneck") and not shape.keeps_shape:
        total += _Convolution(shape.in_channels, shape.out_channels, 1).num_params
    if shape.squeeze:
        squeezed = _squeezed(shape.out_channels)
        total += 2 * shape.out_channels * squeezed + shape.out_channels + squeezed
    return total


def _squeezed(channels: int) -> int:
    return max(_LEAST_SQUEEZED, channels // 4)


def _shortcut(shape: BlockShape, style: Style) -> nn.Module:
    """Return the identity, or a strided 1x1 convolution where the shape changes (option B)."""
    if shape.keeps_shape:
        return nn.Identity()
    channels = (shape.in_channels, shape.out_channels)
    return nn.Sequential(*conv_norm(channels, 1, style, stride=shape.stride))
