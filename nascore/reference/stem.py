"""Changes the first layers of a network for images of few pixels or of other channels."""

from torch import nn

SMALL = 64
"""Images below this many pixels a side get the small stem: a network made for 224 pixels reduces
them to one or two pixels before its first block."""


def adapt_stem(network: nn.Module, channels: int, size: int) -> None:
    """Change the first convolution of a network, and its first pooling for small images.

    The small stem is the usual one for CIFAR (ResNet, arXiv 1512.03385, section 4.2): a 3x3
    convolution with stride 1 and no pooling behind it. A convolution that cuts the image into
    patches gets patches of 2x2 instead.

    Args:
        network: its first convolution in the order of its modules reads the image.
        channels: of the images.
        size: height and width of the images.
    """
    first, conv = next(
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    )
    is_small = size < SMALL and conv.stride[0] > 1
    if channels == conv.in_channels and not is_small:
        return
    if is_small:
        _remove_pooling(network, first)
    _replace(network, first, _small(conv, channels) if is_small else _like(conv, channels))


def _small(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    cuts_patches = conv.kernel_size == conv.stride
    kernel, stride, padding = (2, 2, 0) if cuts_patches else (3, 1, 1)
    new = nn.Conv2d(
        channels,
        conv.out_channels,
        kernel,
        stride=stride,
        padding=padding,
        bias=conv.bias is not None,
    )
    return _initialised(new)


def _like(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return the same convolution for images with another number of channels."""
    new = nn.Conv2d(
        channels,
        conv.out_channels,
        (conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=conv.padding
        if isinstance(conv.padding, str)
        else (conv.padding[0], conv.padding[1]),
        bias=conv.bias is not None,
    )
    return _initialised(new)


def _initialised(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _remove_pooling(network: nn.Module, first: str) -> None:
    """Replace a pooling that follows the first convolution before any other convolution."""
    is_behind = False
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if is_behind:
                return
            is_behind = name == first
        elif is_behind and isinstance(module, nn.MaxPool2d):
            _replace(network, name, nn.Identity())
            return


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
