"""Encoder and decoder between architectures and short continuous vectors (NASES, stage A).

Both autoencoders map token strings (B, L) to embeddings in (0, 1)^E and back. They are trained on
simulated, unlabelled architectures, before any network is trained.

- `CategoricalAutoencoder`, of `nases`: one-hot tokens in, one softmax per token out, cross-entropy.
  With 1.5 bits per dimension the round trip is exact, so that every architecture can be reached.
- `ReleasedAutoencoder`, of `nases-paper` (arXiv 1909.03615, released code): raw integers 1..V in
  and out, squared error. 60 tokens in 20 numbers are lossy by design: a linear code cannot explain
  more than a third of the tokens' variance, so decoded tokens regress to the mean.

Departures of the latter from the release: all simulated strings are used (the release overwrites a
variable and continues with 10,000), and decoded tokens are clipped at V, which the release omits.

Shapes: B strings of L tokens, V values of a token, E embedding dimensions.
"""

import copy
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from nascore.errors import InputError
from nascore.methods.nases.options import AutoencoderOptions, PaperAutoencoderOptions
from nascore.threads import thread_limit

AnyOptions = AutoencoderOptions | PaperAutoencoderOptions

_BITS_PER_DIMENSION = 1.5  # the most at which the round trip is exact
_NOISE = 0.05  # on embeddings in training: makes neighbours in the embedding neighbours in tokens
_NUM_HELD_OUT = 2000


class Autoencoder(nn.Module, ABC):
    """An encoder and a decoder of the same tokens.

    Attributes:
        is_balanced: how training strings are drawn, see `simulate`.
    """

    is_balanced: ClassVar[bool]
    embedding_size: int
    tokens_in: nn.Module
    encoder: nn.Module
    decoder: nn.Module

    def encode(self, tokens_BL: Tensor) -> Tensor:
        """Map 0-based tokens (B, L) to embeddings (B, E) in (0, 1)."""
        return torch.sigmoid(self.encoder(self.tokens_in(tokens_BL)))

    @abstractmethod
    def decode(self, z_BE: Tensor) -> Tensor:
        """Map any embeddings in (0, 1) to valid 0-based tokens (B, L)."""

    @abstractmethod
    def loss(self, tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
        """Return the reconstruction loss of a batch."""

    def schedule(self, optimizer: Optimizer, options: AnyOptions) -> LRScheduler:
        """Return the schedule of the learning rate: one cycle with its peak at `options.lr`."""
        return OneCycleLR(optimizer, options.lr, total_steps=options.steps, pct_start=0.1)

    def new_controller(self) -> "EmbeddingController":
        """Return a controller whose weights are a copy of the encoder's."""
        return EmbeddingController(self.tokens_in, self.encoder)


class EmbeddingController(nn.Module):
    """The mean of the policy: an architecture in, a point of the embedding out.

    It has the encoder's shape and starts with a copy of its weights, so before any update it maps
    an architecture to that architecture's own embedding.
    """

    def __init__(self, tokens_in: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.tokens_in = tokens_in
        self.body = copy.deepcopy(encoder)
        self.body.requires_grad_(True)

    def logits(self, tokens_BL: Tensor) -> Tensor:
        """Return the output before the sigmoid, (B, E)."""
        out: Tensor = self.body(self.tokens_in(tokens_BL))
        return out

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(tokens_BL))


class OneHot(nn.Module):
    """Tokens (B, L) of different vocabularies to concatenated one-hot vectors (B, sum of V)."""

    offsets: Tensor

    def __init__(self, cardinalities: tuple[int, ...]) -> None:
        super().__init__()
        sizes = torch.tensor(cardinalities)
        self.width = int(sizes.sum())
        self.register_buffer("offsets", torch.cumsum(sizes, 0) - sizes, persistent=False)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        positions = tokens_BL + self.offsets
        return torch.zeros(len(tokens_BL), self.width).scatter_(1, positions, 1.0)


class RawIntegers(nn.Module):
    """Tokens (B, L) to unscaled floats 1..V, as in the release."""

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return tokens_BL.float() + 1.0


class CategoricalAutoencoder(Autoencoder):
    """One-hot tokens, hidden layer, sigmoid embedding, hidden layer, one softmax per token."""

    is_balanced = False

    def __init__(self, cardinalities: tuple[int, ...], options: AutoencoderOptions) -> None:
        super().__init__()
        self.cardinalities = cardinalities
        bits = sum(math.log2(size) for size in cardinalities)
        self.embedding_size = max(2, math.ceil(bits / _BITS_PER_DIMENSION))
        one_hot = OneHot(cardinalities)
        self.tokens_in = one_hot
        width = options.hidden_size
        self.encoder = _ShortcutMlp(one_hot.width, width, self.embedding_size)
        self.decoder = _ShortcutMlp(self.embedding_size, width, one_hot.width)
        self._one_vocabulary = len(set(cardinalities)) == 1

    def decode(self, z_BE: Tensor) -> Tensor:
        logits_BV = self._logits(z_BE)
        if self._one_vocabulary:  # one call instead of one per token
            return logits_BV.view(-1, len(self.cardinalities), self.cardinalities[0]).argmax(dim=2)
        parts = logits_BV.split(self.cardinalities, dim=1)
        return torch.stack([part.argmax(dim=1) for part in parts], dim=1)

    def loss(self, tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean cross-entropy per token in nats, with noise on the embedding."""
        z_BE = self.encode(tokens_BL)
        z_BE = z_BE + _NOISE * torch.randn(z_BE.shape, generator=generator)
        logits_BV = self._logits(z_BE)
        if self._one_vocabulary:
            return F.cross_entropy(logits_BV.view(-1, self.cardinalities[0]), tokens_BL.flatten())
        parts = logits_BV.split(self.cardinalities, dim=1)
        losses = [
            F.cross_entropy(part, tokens_BL[:, position]) for position, part in enumerate(parts)
        ]
        return torch.stack(losses).mean()

    def _logits(self, z_BE: Tensor) -> Tensor:
        logits_BV: Tensor = self.decoder(2 * z_BE - 1)
        return logits_BV


class ReleasedAutoencoder(Autoencoder):
    """The released autoencoder: L - L - 90 L - 30 L - E and back E - 30 L - 90 L - L.

    Attributes:
        wide, narrow: sizes of the hidden layers, in multiples of the length L.
    """

    is_balanced = True
    wide: ClassVar[int] = 90
    narrow: ClassVar[int] = 30

    def __init__(self, cardinalities: tuple[int, ...]) -> None:
        super().__init__()
        length = len(cardinalities)
        self.vocabulary = cardinalities[0]
        self.embedding_size = max(2, length // 3)
        wide, narrow = self.wide * length, self.narrow * length
        self.tokens_in = RawIntegers()
        self.encoder = nn.Sequential(
            nn.Linear(length, length),
            nn.ReLU(),
            nn.Linear(length, wide),
            nn.Tanh(),
            nn.Linear(wide, narrow),
            nn.Tanh(),
            nn.Linear(narrow, self.embedding_size),
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.embedding_size, narrow),
            nn.Tanh(),
            nn.Linear(narrow, wide),
            nn.Tanh(),
            nn.Linear(wide, length),
            nn.ReLU(),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, gain=0.5)
                nn.init.constant_(module.bias, 0.1)

    def decode(self, z_BE: Tensor) -> Tensor:
        """Round up, as the release does: every token is half a step too high on average."""
        values: Tensor = self.decoder(z_BE)
        return values.ceil().clamp(1, self.vocabulary).long() - 1

    def loss(self, tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
        return F.mse_loss(self.decoder(self.encode(tokens_BL)), self.tokens_in(tokens_BL))

    def schedule(self, optimizer: Optimizer, options: AnyOptions) -> LRScheduler:
        """Return a constant learning rate."""
        return LambdaLR(optimizer, lambda step: 1.0)


class _ShortcutMlp(nn.Module):
    """One hidden layer plus a linear shortcut, which is learned in the first steps."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, outputs)
        self.shortcut = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(x))) + self.shortcut(x)
        return out


def make_autoencoder(
    cardinalities: tuple[int, ...], options: AnyOptions, *, seed: int
) -> Autoencoder:
    """Make an untrained autoencoder; the state of the global generator is restored.

    Raises:
        InputError: tokens with these numbers of values cannot be encoded.
    """
    problems = options.unfit_for(cardinalities)
    if problems:
        raise InputError(problems)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(options, PaperAutoencoderOptions):
            return ReleasedAutoencoder(cardinalities)
        return CategoricalAutoencoder(cardinalities, options)


def simulate(
    cardinalities: tuple[int, ...], count: int, generator: torch.Generator, *, balanced: bool
) -> Tensor:
    """Draw unlabelled architectures: token strings (count, L).

    Args:
        balanced: as in the release, a value occurs at most four times in a string (drawn without
            replacement from four copies of the vocabulary), and all tokens have one vocabulary;
            else uniform.
    """
    sizes = torch.tensor(cardinalities)
    if not balanced:
        return (torch.rand(count, len(sizes), generator=generator) * sizes).long()
    order = torch.rand(count, 4 * cardinalities[0], generator=generator).argsort(dim=1)
    return order[:, : len(cardinalities)] // 4


@thread_limit(1)
def train_autoencoder(
    autoencoder: Autoencoder,
    cardinalities: tuple[int, ...],
    options: AnyOptions,
    generator: torch.Generator,
) -> dict[str, float]:
    """Train in place on simulated strings (stage A).

    Returns:
        Figures of held-out strings: `token_accuracy`, `exact_round_trip` (fractions) and `loss`.
    """
    balanced = autoencoder.is_balanced
    strings = simulate(cardinalities, options.num_strings, generator, balanced=balanced)
    held_out = simulate(cardinalities, _NUM_HELD_OUT, generator, balanced=balanced)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=options.lr, fused=True)
    schedule = autoencoder.schedule(optimizer, options)
    for _ in range(options.steps):
        picked = torch.randint(0, len(strings), (options.batch_size,), generator=generator)
        loss = autoencoder.loss(strings[picked], generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    autoencoder.requires_grad_(False)
    with torch.inference_mode():
        decoded = autoencoder.decode(autoencoder.encode(held_out))
        equal = decoded == held_out
        return {
            "token_accuracy": float(equal.float().mean()),
            "exact_round_trip": float(equal.all(dim=1).float().mean()),
            "loss": float(autoencoder.loss(held_out, generator)),
        }
