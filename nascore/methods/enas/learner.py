"""REINFORCE for the controller, with the encoding of remembered architectures.

    L = -mean_b (R_b - baseline) log pi(a_b) - w_H H(pi) + lambda L_memory

Source: ENAS (arXiv 1802.03268, released code) for REINFORCE with a moving average as baseline, and
arXiv 1904.00438 for the memory. Departures: several architectures per update, since one makes the
training unstable; the entropy is that of the whole distributions, not of the sampled tokens; the
baseline is the average before the update, which the rewards of the update do not bias.

N architectures, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nascore.checkpoint import below
from nascore.methods.common.reinforce import reinforce_loss
from nascore.methods.enas.controller import Controller
from nascore.methods.enas.memory import MemoryEncoder, uniform_entropy
from nascore.methods.enas.options import EnasOptions
from nascore.methods.enas.policy import Reward, uniform
from nascore.seeding import Seeds, seeded_weights
from nascore.training.resumable import load_optimizer, optimizer_tensors

_NUM_HELD_OUT = 200
_MAX_GRAD_NORM = 1.0  # one outlier must not dominate Adam's moving averages


class NonFiniteRewardError(Exception):
    """A reward is NaN or infinite; the controller was not updated with it."""


class Learner:
    """A controller with its optimiser, its baseline and, if it has one, its memory.

    Random numbers depend on the seed and the number of an update, so `state` contains everything
    that later updates depend on.

    Args:
        stream: names the random streams. It is the same for ENAS and memory-ENAS: with weight 0 of
            the memory they are the same, bit for bit.

    Attributes:
        encoder: the memory and its decoder; None for plain ENAS.
    """

    def __init__(
        self, cardinalities: Sequence[int], options: EnasOptions, seeds: Seeds, stream: str
    ) -> None:
        self._options, self._seeds, self._stream = options.controller, seeds, stream
        with seeded_weights(seeds.integer(stream, "weights")):
            self.controller = Controller(cardinalities, self._options)
        parameters = list(self.controller.parameters())
        self.encoder: MemoryEncoder | None = None
        if options.active_memory is not None:
            with seeded_weights(seeds.integer(stream, "decoder weights")):
                self.encoder = MemoryEncoder(
                    cardinalities, options.active_memory, self._options.hidden_size
                )
            parameters += self.encoder.decoder.parameters()
        self._parameters = parameters
        self._optimizer = torch.optim.Adam(parameters, lr=self._options.lr)
        self._baseline: float | None = None

    def sample(self, num: int, *name: str | int) -> Tensor:
        """Return architectures of the policy, int64 (num, T); equal names give equal ones."""
        return self.controller.sample(num, self._seeds.torch(self._stream, "sample", *name))

    # Before the search.

    def pretrain(self) -> dict[str, float]:
        """Fill the memory with uniform architectures and train by the encoding loss alone.

        Returns:
            Metrics; empty without a memory.
        """
        if self.encoder is None:
            return {}
        self.encoder.add(self._uniform(self.encoder.options.warmup, "warm-up"))
        for step in range(self.encoder.options.pretrain_steps):
            loss = self._encoding_loss("pretrain", step)
            if loss is not None:
                self._descend(loss)
        return {
            "held_out_encoding_loss": self.held_out_encoding_loss(),
            "uniform_entropy": uniform_entropy(self.controller.cardinalities),
        }

    @torch.no_grad()
    def held_out_encoding_loss(self) -> float:
        """Return the encoding loss on uniform architectures that the seed fixes, nats per token."""
        assert self.encoder is not None
        tokens_NT = self._uniform(_NUM_HELD_OUT, "held out")
        generator = self._seeds.torch(self._stream, "held out dropout")
        return float(self.encoder.loss(self.controller, tokens_NT, generator))

    def _uniform(self, num: int, *name: str) -> Tensor:
        return uniform(num, self.controller.cardinalities, self._seeds, self._stream, *name)

    # In the search.

    def update(self, number: int, reward: Reward) -> dict[str, float]:
        """Make one step of Adam on the rewards of new samples and on the memory.

        Args:
            number: of the update; names its random numbers.
            reward: token strings (N, T) -> rewards (N,).

        Returns:
            Metrics.

        Raises:
            NonFiniteRewardError: a reward is not finite; the controller is unchanged.
        """
        tokens_NT = self.sample(self._options.architectures, "update", number)
        reward_N = _finite(reward(tokens_NT).double(), tokens_NT)
        mean_reward = float(reward_N.mean())
        baseline = mean_reward if self._baseline is None else self._baseline
        reading = self.controller.read(tokens_NT)
        log_prob_N = reading.log_prob_BT.sum(1)
        entropy = reading.entropy_BT.sum(1).mean()
        loss = reinforce_loss(log_prob_N, (reward_N - baseline).to(log_prob_N.dtype))
        loss = loss - self._options.entropy_weight * entropy
        encoding = self._encoding_loss("memory", number)
        if encoding is not None and self.encoder is not None:
            loss = loss + self.encoder.options.weight * encoding
        self._descend(loss)
        decay = self._options.baseline_decay
        self._baseline = decay * baseline + (1 - decay) * mean_reward
        if self.encoder is not None:
            self.encoder.memory.add(tokens_NT, reward_N)
        metrics = {"reward": mean_reward, "entropy": entropy.item(), "baseline": self._baseline}
        return metrics if encoding is None else {**metrics, "encoding_loss": encoding.item()}

    def _encoding_loss(self, purpose: str, number: int) -> Tensor | None:
        """Return the encoding loss of a batch of the memory; None without one, or while empty."""
        if self.encoder is None or len(self.encoder.memory) == 0:
            return None
        generator = self._seeds.torch(self._stream, purpose, number)
        tokens_BT = self.encoder.memory.sample(self.encoder.options.batch_size, generator)
        return self.encoder.loss(self.controller, tokens_BT, generator)

    def _descend(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, _MAX_GRAD_NORM)
        self._optimizer.step()

    # The checkpoint.

    def state(self) -> dict[str, Tensor]:
        """Return copies of weights, optimiser, baseline and memory, as tensors by name."""
        tensors = {f"controller.{k}": v for k, v in self.controller.state_dict().items()}
        if self.encoder is not None:
            tensors |= self.encoder.state()
        tensors |= optimizer_tensors("adam", self._optimizer)
        if self._baseline is not None:
            tensors["baseline"] = torch.tensor(self._baseline, dtype=torch.float64)
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from the `state` of a learner with the same settings."""
        self.controller.load_state_dict(below("controller.", state))
        if self.encoder is not None:
            self.encoder.load_state(state)
        copies = {name: value.clone() for name, value in state.items()}
        load_optimizer("adam", self._optimizer, copies)
        self._baseline = float(state["baseline"]) if "baseline" in state else None


def _finite(reward_N: Tensor, tokens_NT: Tensor) -> Tensor:
    assert reward_N.shape == (len(tokens_NT),), "one reward for each architecture"
    is_bad_N = reward_N.isfinite().logical_not()
    if bool(is_bad_N.any()):
        bad = int(is_bad_N.nonzero()[0])
        raise NonFiniteRewardError(
            f"the reward of architecture {tokens_NT[bad].tolist()} is {float(reward_N[bad])}"
        )
    return reward_N
