"""Encoder and decoder between architectures and short continuous vectors (NASES, stage A).

L tokens, V values a token, E embedding dimensions, B strings. Both coders map token strings (B, L)
to embeddings in (0, 1)^E and back; both are trained on simulated, unlabelled architectures alone,
before any network is trained.

- `mse` is the released one (arXiv 1909.03615, released code): raw integers 1..V in, raw integers
  out, squared error. 60 tokens into 20 numbers is lossy by design: a linear code cannot beat 2/3 of
  the tokens' variance, so decoded tokens regress to the mean.
- `categorical` (default, ours): one-hot tokens in, one softmax a token out, cross-entropy. With
  about 1.5 bits a dimension the round trip is exact, and every architecture can be reached.

Departures of `mse`: all simulated strings are kept (the release overwrites a variable and goes on
with 10,000); decoded tokens are rounded (`rounding: ceil` is the release's, which shifts every
token up by half a step) and clipped at V, which the release forgets.
"""

import copy
import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.errors import InputError
from nascore.methods.nases.options import CoderOptions
from nascore.training.threads import one_thread


class Autoencoder(nn.Module, ABC):
    """An encoder and a decoder of the same tokens."""

    embedding_size: int

    @abstractmethod
    def encode(self, tokens_BL: Tensor) -> Tensor:
        """0-based tokens (B, L) -> embeddings (B, E) in (0, 1)."""

    @abstractmethod
    def decode(self, z_BE: Tensor) -> Tensor:
        """Any embeddings in (0, 1) -> valid 0-based tokens (B, L)."""

    @abstractmethod
    def loss(self, tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruction loss of a batch."""

    @abstractmethod
    def new_controller(self) -> "Controller":
        """A controller that starts as the encoder."""


class Controller(nn.Module):
    """The policy's mean: an architecture in, a point of the embedding out.

    It has the encoder's shape and starts with a copy of its weights, so before any update it maps
    an architecture to that architecture's own embedding.
    """

    def __init__(self, read: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.read = read
        self.body = copy.deepcopy(body)
        self.body.requires_grad_(True)

    def logits(self, tokens_BL: Tensor) -> Tensor:
        """Before the sigmoid, (B, E)."""
        out: Tensor = self.body(self.read(tokens_BL))
        return out

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(tokens_BL))


class OneHot(nn.Module):
    """Tokens (B, L) of different vocabularies -> concatenated one-hot vectors (B, sum of V)."""

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
    """Tokens (B, L) -> floats 1..V, unscaled, as the release feeds them."""

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return tokens_BL.float() + 1.0


class CategoricalCoder(Autoencoder):
    """One-hot tokens - hidden - sigmoid embedding - hidden - one softmax a token."""

    def __init__(self, cardinalities: tuple[int, ...], options: CoderOptions) -> None:
        super().__init__()
        self.cardinalities = cardinalities
        bits = sum(math.log2(size) for size in cardinalities)
        self.embedding_size = options.embedding_size or max(
            2, math.ceil(bits / options.bits_per_dimension)
        )
        self.read = OneHot(cardinalities)
        width = options.hidden_size
        self.encoder = _ShortcutMlp(self.read.width, width, self.embedding_size)
        self.decoder = _ShortcutMlp(self.embedding_size, width, self.read.width)
        self.noise = options.noise
        self._one_vocabulary = len(set(cardinalities)) == 1

    def encode(self, tokens_BL: Tensor) -> Tensor:
        return torch.sigmoid(self.encoder(self.read(tokens_BL)))

    def decode(self, z_BE: Tensor) -> Tensor:
        logits_BV = self._logits(z_BE)
        if self._one_vocabulary:  # one call instead of one a token
            return logits_BV.view(-1, len(self.cardinalities), self.cardinalities[0]).argmax(dim=2)
        parts = logits_BV.split(self.cardinalities, dim=1)
        return torch.stack([part.argmax(dim=1) for part in parts], dim=1)

    def loss(self, tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
        """Mean cross-entropy a token, in nats; noise on the embedding spreads the codes out."""
        z_BE = self.encode(tokens_BL)
        z_BE = z_BE + self.noise * torch.randn(z_BE.shape, generator=generator)
        logits_BV = self._logits(z_BE)
        if self._one_vocabulary:
            return F.cross_entropy(logits_BV.view(-1, self.cardinalities[0]), tokens_BL.flatten())
        parts = logits_BV.split(self.cardinalities, dim=1)
        losses = [
            F.cross_entropy(part, tokens_BL[:, position]) for position, part in enumerate(parts)
        ]
        return torch.stack(losses).mean()

    def new_controller(self) -> Controller:
        return Controller(self.read, self.encoder)

    def _logits(self, z_BE: Tensor) -> Tensor:
        logits_BV: Tensor = self.decoder(2 * z_BE - 1)
        return logits_BV


class MseAutoencoder(Autoencoder):
    """The released coder: L - L - 90 L - 30 L - E and back E - 30 L - 90 L - L."""

    def __init__(self, cardinalities: tuple[int, ...], options: CoderOptions) -> None:
        super().__init__()
        length = len(cardinalities)
        self.vocabulary = cardinalities[0]
        self.embedding_size = options.embedding_size or max(2, length // 3)
        self.rounding = options.rounding
        wide, narrow = options.mse_wide_factor * length, options.mse_narrow_factor * length
        self.read = RawIntegers()
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

    def encode(self, tokens_BL: Tensor) -> Tensor:
        return torch.sigmoid(self.encoder(self.read(tokens_BL)))

    def decode(self, z_BE: Tensor) -> Tensor:
        values: Tensor = self.decoder(z_BE)
        values = values.ceil() if self.rounding == "ceil" else values.round()
        return values.clamp(1, self.vocabulary).long() - 1

    def loss(self, tokens_BL: Tensor, generator: torch.Generator) -> Tensor:
        return F.mse_loss(self.decoder(self.encode(tokens_BL)), self.read(tokens_BL))

    def new_controller(self) -> Controller:
        return Controller(self.read, self.encoder)


class _ShortcutMlp(nn.Module):
    """One hidden layer beside a linear shortcut: the shortcut is learned in the first steps."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.second = nn.Linear(hidden, outputs)
        self.shortcut = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(x))) + self.shortcut(x)
        return out


def make_coder(cardinalities: tuple[int, ...], options: CoderOptions, *, seed: int) -> Autoencoder:
    """An untrained coder; the global random state is left as it was.

    Raises:
        InputError: the options do not suit tokens of so many values.
    """
    problems = options.unfit_for(cardinalities)
    if problems:
        raise InputError(problems)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = MseAutoencoder if options.kind == "mse" else CategoricalCoder
        return kind(cardinalities, options)


def simulate(
    cardinalities: tuple[int, ...], count: int, generator: torch.Generator, *, balanced: bool
) -> Tensor:
    """Unlabelled architectures: token strings (count, L).

    Args:
        balanced: as in the release, a token value stands at most four times in a string (drawn
            without replacement from four copies of the vocabulary), which must be the same for all
            tokens; else uniform.
    """
    sizes = torch.tensor(cardinalities)
    if not balanced:
        return (torch.rand(count, len(sizes), generator=generator) * sizes).long()
    order = torch.rand(count, 4 * cardinalities[0], generator=generator).argsort(dim=1)
    return order[:, : len(cardinalities)] // 4


def train_coder(
    coder: Autoencoder,
    cardinalities: tuple[int, ...],
    options: CoderOptions,
    generator: torch.Generator,
) -> dict[str, float]:
    """Stage A: trains in place on simulated strings.

    Returns:
        Held-out figures: `token_accuracy`, `exact_round_trip` (fractions) and `loss`.
    """
    with one_thread():
        return _train_coder(coder, cardinalities, options, generator)


def _train_coder(
    coder: Autoencoder,
    cardinalities: tuple[int, ...],
    options: CoderOptions,
    generator: torch.Generator,
) -> dict[str, float]:
    strings = simulate(
        cardinalities, options.num_strings, generator, balanced=options.balanced_strings
    )
    held_out = simulate(cardinalities, 2000, generator, balanced=options.balanced_strings)
    optimizer = torch.optim.Adam(coder.parameters(), lr=options.lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.lr, total_steps=options.steps, pct_start=0.1
    )
    for _ in range(options.steps):
        picked = torch.randint(0, len(strings), (options.batch_size,), generator=generator)
        loss = coder.loss(strings[picked], generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if options.kind == "categorical":  # the release keeps its rate
            schedule.step()
    coder.requires_grad_(False)
    with torch.inference_mode():
        decoded = coder.decode(coder.encode(held_out))
        equal = decoded == held_out
        return {
            "token_accuracy": float(equal.float().mean()),
            "exact_round_trip": float(equal.all(dim=1).float().mean()),
            "loss": float(coder.loss(held_out, generator)),
        }
