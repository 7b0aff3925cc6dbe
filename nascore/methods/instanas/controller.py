"""The policy: a small network that returns the probability of each operation for an image.

    p = C(x) in (0, 1)^(L x O),   p' = alpha p + (1 - alpha) (1 - p),   a_ij ~ Bernoulli(p'_ij)

Given the image, operations are chosen independently of each other. Source: InstaNAS (arXiv
1811.10201, released code `controller.py`, its small ResNet for 32x32 images). Departures: the maps
are pooled globally at any size, so that images may have any size from 8x8; widths and the number of
stages are arguments.

B images, L blocks, O operations, C channels, D features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.seeding import seeded_weights
from nascore.spaces import ops


class PolicyNetwork(nn.Module):
    """Images (B, C, H, W) -> probabilities of operations (B, L, O).

    A 3x3 convolution, then a residual block per stage: the first keeps size and channels, each
    later one halves the size and doubles the channels. Then global average pooling and a linear
    layer.

    Args:
        in_channels: channels of the images.
        policy_shape: (L, O).
        channels: channels of the first stage; 16 in the release.
        num_stages: 3 in the release for 32x32 images, 4 for larger ones.
        pooling: side in pixels of the squares over which images are averaged first; 2 in the
            release for large images. The network is part of the latency of an image.
    """

    def __init__(
        self,
        in_channels: int,
        policy_shape: tuple[int, int],
        *,
        channels: int = 16,
        num_stages: int = 3,
        pooling: int = 1,
    ) -> None:
        super().__init__()
        self.policy_shape = policy_shape
        self.settings = {"channels": channels, "num_stages": num_stages, "pooling": pooling}
        self.pool = nn.AvgPool2d(pooling) if pooling > 1 else nn.Identity()
        self.stem = nn.Sequential(
            ops.conv(in_channels, channels, 3), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.stages = nn.Sequential(_Residual(channels, channels, stride=1))
        for _ in range(1, num_stages):
            self.stages.append(_Residual(channels, 2 * channels, stride=2))
            channels *= 2
        num_blocks, num_operations = policy_shape
        self.head = nn.Linear(channels, num_blocks * num_operations)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.stages(self.stem(self.pool(x_BCHW)))
        features_BD = F.adaptive_avg_pool2d(x_BCHW, 1).flatten(1)
        p_BLO: Tensor = torch.sigmoid(self.head(features_BD)).unflatten(1, self.policy_shape)
        return p_BLO


class _Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is averaged and padded with zero channels."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ops.conv(in_channels, out_channels, 3, stride=stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            ops.conv(out_channels, out_channels, 3),
            nn.BatchNorm2d(out_channels),
        )
        self.added_channels = out_channels - in_channels
        self.shortcut = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        kept_BCHW = F.pad(self.shortcut(x_BCHW), (0, 0, 0, 0, 0, self.added_channels))
        out: Tensor = (self.body(x_BCHW) + kept_BCHW).relu()
        return out


def make_policy_network(
    in_channels: int,
    policy_shape: tuple[int, int],
    *,
    seed: int,
    channels: int = 16,
    num_stages: int = 3,
    pooling: int = 1,
) -> PolicyNetwork:
    """Return a policy whose initial weights depend on `seed` alone."""
    with seeded_weights(seed):
        return PolicyNetwork(
            in_channels,
            policy_shape,
            channels=channels,
            num_stages=num_stages,
            pooling=pooling,
        )


# --- the distribution ---------------------------------------------------------------------------


def bounded(p_BLO: Tensor, alpha: float = 0.8) -> Tensor:
    """Return p' = alpha p + (1 - alpha) (1 - p), within [1 - alpha, alpha], for exploration.

    Raises:
        ValueError: alpha is not within [0.5, 1]; below, probabilities would be reversed.
    """
    if not 0.5 <= alpha <= 1:
        raise ValueError(f"alpha must be within [0.5, 1], got {alpha}")
    # Clamped, since rounding may leave the interval by a bit.
    return (alpha * p_BLO + (1 - alpha) * (1 - p_BLO)).clamp(1 - alpha, alpha)


def greedy(p_BLO: Tensor) -> Tensor:
    """Return the operations with probability 0.5 or more, bool (B, L, O)."""
    return p_BLO >= 0.5


def sample(p_BLO: Tensor, generator: torch.Generator) -> Tensor:
    """Sample policies, bool (B, L, O); equal generators give equal ones on every device."""
    drawn_BLO = torch.rand(p_BLO.shape, generator=generator, device=generator.device)
    return drawn_BLO.to(p_BLO.device) < p_BLO


def permuted(policy_BLO: Tensor, generator: torch.Generator) -> Tensor:
    """Assign the policies to other images of the batch, to decouple image and network."""
    order_B = torch.randperm(len(policy_BLO), generator=generator, device=generator.device)
    return policy_BLO[order_B.to(policy_BLO.device)]


def log_prob(policy_BLO: Tensor, p_BLO: Tensor) -> Tensor:
    """Return the log-probability of each image's policy, (B,)."""
    chosen_BLO = policy_BLO.to(p_BLO.dtype)
    on_BLO = torch.special.xlogy(chosen_BLO, p_BLO)
    off_BLO = torch.special.xlog1py(1 - chosen_BLO, -p_BLO)
    log_prob_B: Tensor = (on_BLO + off_BLO).sum(dim=(1, 2))
    return log_prob_B


def entropy(p_BLO: Tensor) -> Tensor:
    """Return the entropy of each image's policy in nats, (B,).

    Departure: the release omits the term of inactive operations, -(1 - p) log(1 - p), which favours
    inactive ones: its maximum is at p = 1/e.
    """
    terms_BLO = torch.special.entr(p_BLO) + torch.special.entr(1 - p_BLO)
    entropy_B: Tensor = terms_BLO.sum(dim=(1, 2))
    return entropy_B
