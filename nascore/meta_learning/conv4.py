"""Conv-4, the network of MAML with four convolutions: the baseline of few-shot searches."""

from torch import nn


class Conv4(nn.Sequential):
    """Four times 3x3 convolution, batch norm, ReLU, 2x2 max pool; then a linear layer.

    Source: MAML (arXiv 1703.03400) and its released code, the network for mini-ImageNet; there 32
    channels on 84x84 images are 32,901 weights. The order of norm, activation and pool matters:
    another one changes results. Departure: a map of one pixel is not pooled, so that small images
    (8x8 digits) can be used.
    """

    def __init__(
        self, in_channels: int, size: int, num_classes: int, *, channels: int = 32
    ) -> None:
        """
        Args:
            in_channels: channels of the images (B, in_channels, size, size).
            size: height and width of the images in pixels.
            num_classes: ways of a task.
            channels: of each convolution.
        """
        layers: list[nn.Module] = []
        for given in (in_channels, channels, channels, channels):
            layer = nn.Conv2d(given, channels, 3, padding=1)
            layers += [layer, nn.BatchNorm2d(channels), nn.ReLU()]
            if size > 1:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        layers += [nn.Flatten(), nn.Linear(channels * size**2, num_classes)]
        super().__init__(*layers)
        for module in self:
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
