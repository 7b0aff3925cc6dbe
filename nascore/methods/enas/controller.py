"""The policy of ENAS: an LSTM that emits an architecture token by token.

    pi(a) = prod_t pi(a_t | a_<t),   h_t = LSTM(embedding of a_t, h_{t-1})

B architectures, T tokens, H hidden units, K values of a token. It works for any search space: each
token has embeddings and a linear head of its own. Source: ENAS (arXiv 1802.03268) and its released
code for the logits, which are divided by a temperature and bounded by a tanh: without that the
policy turns deterministic early. Departures: all nodes are chosen by linear heads (the release
chooses inputs by attention over earlier nodes), and the last token is read as well, so that the
last hidden state depends on the whole architecture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nascore.methods.enas.options import ControllerOptions

State = tuple[Tensor, Tensor]
"""Hidden and cell state of the LSTM, (B, H) each."""

_INITIAL_RANGE = 0.1  # weights start uniform within +- this, as in both ENAS code bases


@dataclass(frozen=True, slots=True)
class Reading:
    """Probabilities and states of a controller on given architectures.

    Attributes:
        log_prob_BT: log pi(a_t | a_<t).
        entropy_BT: entropy of the distribution of token t, in nats.
        hidden_BTH: state after token t was read; the last one represents the architecture.
        last: hidden and cell state after the last token.
    """

    log_prob_BT: Tensor
    entropy_BT: Tensor
    hidden_BTH: Tensor
    last: State


class Controller(nn.Module):
    """An autoregressive policy over token strings; on the CPU, since its steps are small."""

    def __init__(self, cardinalities: Sequence[int], options: ControllerOptions) -> None:
        super().__init__()
        self.cardinalities = tuple(cardinalities)
        self._options = options
        size = options.hidden_size
        self.start = nn.Parameter(torch.zeros(size))  # read before the first token
        self.embeddings = nn.ModuleList([nn.Embedding(k, size) for k in self.cardinalities])
        self.cell = nn.LSTMCell(size, size)
        self.heads = nn.ModuleList([nn.Linear(size, k) for k in self.cardinalities])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -_INITIAL_RANGE, _INITIAL_RANGE)
        for head in self.heads:
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    @property
    def num_tokens(self) -> int:
        return len(self.cardinalities)

    @torch.no_grad()
    def sample(self, num: int, generator: torch.Generator, *, start: State | None = None) -> Tensor:
        """Sample architectures from the policy in one batch; int64 (num, T).

        Args:
            start: state before the first token, (num, H) each; zeros by default.
        """
        return self.complete(self._begin(num, start), 0, generator)

    @torch.no_grad()
    def complete(self, state: State, position: int, generator: torch.Generator) -> Tensor:
        """Sample the tokens from `position` on, int64 (B, T - position).

        Args:
            state: after the tokens before `position` were read.
        """
        tokens: list[Tensor] = []
        for t in range(position, self.num_tokens):
            probs_BK = self.log_probs(t, state).exp()
            tokens.append(torch.multinomial(probs_BK, 1, generator=generator).squeeze(1))
            if t + 1 < self.num_tokens:
                state = self._advance(self.embeddings[t](tokens[-1]), state)
        return torch.stack(tokens, dim=1)

    def read(self, tokens_BT: Tensor, *, start: State | None = None) -> Reading:
        """Read given architectures (B, T) token by token (teacher forcing); differentiable."""
        state = self._begin(len(tokens_BT), start)
        log_probs, entropies, hidden = [], [], []
        for t in range(self.num_tokens):
            log_probs_BK = self.log_probs(t, state)
            log_probs.append(log_probs_BK.gather(1, tokens_BT[:, t : t + 1]).squeeze(1))
            entropies.append(-(log_probs_BK.exp() * log_probs_BK).sum(1))
            state = self._advance(self.embeddings[t](tokens_BT[:, t]), state)
            hidden.append(state[0])
        return Reading(
            torch.stack(log_probs, 1), torch.stack(entropies, 1), torch.stack(hidden, 1), state
        )

    def read_prefix(self, tokens_BP: Tensor, *, start: State | None = None) -> State:
        """Return the state after the first P tokens of architectures."""
        state = self._begin(len(tokens_BP), start)
        for t in range(tokens_BP.shape[1]):
            state = self._advance(self.embeddings[t](tokens_BP[:, t]), state)
        return state

    @torch.no_grad()
    def distributions(self, tokens_BT: Tensor) -> list[Tensor]:
        """Return log pi(. | a_<t) of given architectures, (B, K) for each t."""
        state = self._begin(len(tokens_BT), None)
        found = []
        for t in range(self.num_tokens):
            found.append(self.log_probs(t, state))
            state = self._advance(self.embeddings[t](tokens_BT[:, t]), state)
        return found

    def log_probs(self, position: int, state: State) -> Tensor:
        """Return log pi(. | state) of the token at `position`, (B, K)."""
        logits_BK = self.heads[position](state[0]) / self._options.temperature
        bound = self._options.tanh_constant
        return F.log_softmax(bound * torch.tanh(logits_BK), dim=1)

    def _begin(self, num: int, start: State | None) -> State:
        if start is None:
            zeros_BH = self.start.new_zeros(num, len(self.start))
            start = zeros_BH, zeros_BH
        return self._advance(self.start.expand(num, -1), start)

    def _advance(self, x_BH: Tensor, state: State) -> State:
        h_BH, c_BH = self.cell(x_BH, state)
        return h_BH, c_BH
