"""The memory buffer of sampled architectures, and the loss by which the controller encodes them.

Source: arXiv 1904.00438, whose abstract gives the mechanism: the controller is trained with a
buffer of architectures that were sampled before, so that its hidden state must encode past
decisions. Loss, sizes and schedule are not published there; they are our choices
(docs/memory-enas.md).

B architectures, T tokens, H hidden units.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.checkpoint import below
from nascore.methods.enas.controller import Controller, State
from nascore.methods.enas.options import MemoryOptions

_INITIAL_RANGE = 0.1


class Memory:
    """A ring buffer of distinct architectures: the oldest is replaced first; adding one again
    changes its reward and not its age."""

    def __init__(self, capacity: int, num_tokens: int) -> None:
        self.capacity, self._num_tokens = capacity, num_tokens
        self._entries: OrderedDict[tuple[int, ...], float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, tokens_BT: Tensor, rewards_B: Tensor) -> None:
        """Add architectures (B, T) with rewards (B,), NaN for those without one."""
        for tokens, reward in zip(tokens_BT.tolist(), rewards_B.tolist(), strict=True):
            self._entries[tuple(tokens)] = reward
            if len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """Return `num` distinct entries, int64 (num, T), or all of them while there are fewer.

        Raises:
            ValueError: the memory is empty.
        """
        if not self._entries:
            raise ValueError("the memory is empty; add architectures first")
        entries = list(self._entries)
        chosen = torch.randperm(len(entries), generator=generator)[:num].tolist()
        return torch.tensor([entries[i] for i in chosen], dtype=torch.long)

    def tokens(self) -> Tensor:
        """Return all entries, the oldest first; int64 (len, T)."""
        return torch.tensor(list(self._entries), dtype=torch.long).view(-1, self._num_tokens)

    def state(self) -> dict[str, Tensor]:
        rewards = torch.tensor(list(self._entries.values()), dtype=torch.float64)
        return {"tokens": self.tokens(), "rewards": rewards}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._entries.clear()
        self.add(state["tokens"], state["rewards"])


class Decoder(nn.Module):
    """An LSTM that reconstructs an architecture from a controller's last hidden state.

    It starts from that state and predicts each token from those before. Some of its input tokens
    are masked (word dropout), since it could predict without the state otherwise.
    """

    def __init__(self, cardinalities: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(hidden_size))  # also replaces a masked token
        self.embeddings = nn.ModuleList([nn.Embedding(k, hidden_size) for k in cardinalities])
        self.cell = nn.LSTMCell(hidden_size, hidden_size)
        self.heads = nn.ModuleList([nn.Linear(hidden_size, k) for k in cardinalities])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -_INITIAL_RANGE, _INITIAL_RANGE)

    def forward(self, hidden_BH: Tensor, tokens_BT: Tensor, shown_BT: Tensor) -> Tensor:
        """Return log q(a_t | a_<t, h), (B, T); a token is masked where `shown_BT` is false."""
        state: State = hidden_BH, torch.zeros_like(hidden_BH)
        x_BH = self.start.expand(len(tokens_BT), -1)
        log_probs = []
        for t, (embedding, head) in enumerate(zip(self.embeddings, self.heads, strict=True)):
            state = self.cell(x_BH, state)
            log_probs_BK = F.log_softmax(head(state[0]), dim=1)
            log_probs.append(log_probs_BK.gather(1, tokens_BT[:, t : t + 1]).squeeze(1))
            x_BH = torch.where(shown_BT[:, t : t + 1], embedding(tokens_BT[:, t]), self.start)
        return torch.stack(log_probs, dim=1)


class MemoryEncoder:
    """The memory, and the decoder that trains a controller to encode what it contains."""

    def __init__(
        self, cardinalities: Sequence[int], options: MemoryOptions, hidden_size: int
    ) -> None:
        self.options = options
        self.memory = Memory(options.capacity, len(cardinalities))
        self.decoder = Decoder(cardinalities, hidden_size)

    def add(self, tokens_BT: Tensor) -> None:
        """Add architectures without rewards."""
        self.memory.add(tokens_BT, torch.full((len(tokens_BT),), torch.nan))

    def loss(self, controller: Controller, tokens_BT: Tensor, generator: torch.Generator) -> Tensor:
        """Return -log q(a_t | a_<t, h_T) of the decoder, the mean over architectures and tokens.

        The gradient reaches embeddings and LSTM of the controller, not the heads of its policy.

        Args:
            tokens_BT: architectures to be encoded, int64.
            generator: source of the word dropout.

        Returns:
            Scalar, in nats per token.
        """
        shown_BT = torch.rand(tokens_BT.shape, generator=generator) >= self.options.word_dropout
        hidden_BH, _ = controller.read_prefix(tokens_BT)
        log_prob_BT: Tensor = self.decoder(hidden_BH, tokens_BT, shown_BT)
        return -log_prob_BT.mean()

    def state(self) -> dict[str, Tensor]:
        """Return decoder and memory as tensors by name."""
        tensors = {f"decoder.{k}": v for k, v in self.decoder.state_dict().items()}
        return tensors | {f"memory.{k}": v for k, v in self.memory.state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from the `state` of an encoder with the same settings."""
        self.decoder.load_state_dict(below("decoder.", state))
        self.memory.load_state(below("memory.", state))


def uniform_entropy(cardinalities: Sequence[int]) -> float:
    """Return the entropy of uniform architectures in nats per token: the loss of a decoder that
    knows nothing of them."""
    return sum(math.log(k) for k in cardinalities) / len(cardinalities)
