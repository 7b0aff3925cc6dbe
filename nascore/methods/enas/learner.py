"""REINFORCE for the controller, with the encoding of remembered architectures beside it.

    L = -mean_b (R_b - baseline) log pi(a_b) - w_H H(pi) + lambda L_memory

Source: ENAS (arXiv 1802.03268, released code) for REINFORCE with a moving average as baseline, and
arXiv 1904.00438 for the memory. Departures: several architectures an update, since one makes the
training unstable; the entropy is that of the whole distributions, not of the tokens chosen; the
baseline is the average before the update, which the rewards of the update do not bias.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nascore.methods.common.reinforce import reinforce_loss
from nascore.methods.enas.controller import Controller
from nascore.methods.enas.memory import Decoder, Memory, encoding_loss, uniform_entropy
from nascore.methods.enas.options import EnasOptions, MemoryEnasOptions, MemoryOptions
from nascore.methods.enas.policy import Reward, uniform
from nascore.seeding import Seeds, seeded_weights
from nascore.training.checkpoint import below

_NUM_HELD_OUT = 200
_MAX_GRAD_NORM = 1.0  # one outlier must not dominate Adam's moving averages


class RewardNotFinite(Exception):
    """A reward is NaN or infinite; nothing was learned from it."""


class Learner:
    """A controller and all that trains it. Random numbers come from the seed and the number of the
    update, so `state` is everything that the future depends on.

    Args:
        stream: names the random streams. The same for ENAS and memory-ENAS: without weight on the
            memory they are the same, bit for bit.
    """

    def __init__(
        self, cardinalities: Sequence[int], options: EnasOptions, seeds: Seeds, stream: str
    ) -> None:
        self._options, self._seeds, self._stream = options.controller, seeds, stream
        # Options of plain ENAS have no memory.
        self._memory_options: MemoryOptions | None = None
        if isinstance(options, MemoryEnasOptions) and options.memory.weight > 0:
            self._memory_options = options.memory
        with seeded_weights(seeds.integer(stream, "weights")):
            self.controller = Controller(cardinalities, self._options)
        parameters = list(self.controller.parameters())
        self._decoder: Decoder | None = None
        self.memory: Memory | None = None
        if self._memory_options is not None:
            with seeded_weights(seeds.integer(stream, "decoder weights")):
                self._decoder = Decoder(cardinalities, self._options.hidden_size)
            self.memory = Memory(self._memory_options.capacity, len(cardinalities))
            parameters += self._decoder.parameters()
        self._parameters = parameters
        self._optimizer = torch.optim.Adam(parameters, lr=self._options.lr)
        self._baseline: float | None = None

    def sample(self, num: int, *name: str | int) -> Tensor:
        """Architectures of the policy, int64 (num, T); equal names give equal random numbers."""
        return self.controller.sample(num, self._seeds.torch(self._stream, "sample", *name))

    # Before the search.

    def pretrain(self) -> dict[str, float]:
        """Fills the memory with uniform architectures; then updates by the encoding loss alone."""
        if self._memory_options is None or self.memory is None:
            return {}
        warm_BT = self._uniform(self._memory_options.warmup, "warm-up")
        self.memory.add(warm_BT, torch.full((len(warm_BT),), torch.nan))
        for step in range(self._memory_options.pretrain_steps):
            loss = self._encoding_loss("pretrain", step)
            if loss is not None:
                self._descend(loss)
        return {
            "held_out_encoding_loss": self.held_out_encoding_loss(),
            "uniform_entropy": uniform_entropy(self.controller.cardinalities),
        }

    @torch.no_grad()
    def held_out_encoding_loss(self) -> float:
        """Encoding loss on uniform architectures that are fixed by the seed, nats a token."""
        assert self._memory_options is not None
        assert self._decoder is not None
        tokens_BT = self._uniform(_NUM_HELD_OUT, "held out")
        generator = self._seeds.torch(self._stream, "held out dropout")
        return float(
            encoding_loss(
                self.controller, tokens_BT, self._memory_options, self._decoder, generator
            )
        )

    def _uniform(self, num: int, *name: str) -> Tensor:
        return uniform(num, self.controller.cardinalities, self._seeds, self._stream, *name)

    # In the search.

    def update(self, number: int, reward: Reward) -> dict[str, float]:
        """One step of Adam on the rewards of fresh samples, and on remembered architectures.

        Args:
            number: of the update; names its random numbers.
            reward: token strings (N, T) -> (N,).

        Raises:
            RewardNotFinite: a reward is not; the controller is as it was.
        """
        tokens_NT = self.sample(self._options.architectures, "update", number)
        reward_N = reward(tokens_NT).double()
        assert reward_N.shape == (len(tokens_NT),), "one reward for each architecture"
        if not bool(reward_N.isfinite().all()):
            bad = int(reward_N.isfinite().logical_not().nonzero()[0])
            raise RewardNotFinite(
                f"the reward of architecture {tokens_NT[bad].tolist()} is {float(reward_N[bad])}"
            )
        mean_reward = float(reward_N.mean())
        baseline = mean_reward if self._baseline is None else self._baseline
        reading = self.controller.read(tokens_NT)
        log_prob_N = reading.log_prob_BT.sum(1)
        entropy = reading.entropy_BT.sum(1).mean()
        loss = reinforce_loss(log_prob_N, (reward_N - baseline).to(log_prob_N.dtype))
        loss = loss - self._options.entropy_weight * entropy
        encoding = self._encoding_loss("memory", number)
        if encoding is not None and self._memory_options is not None:
            loss = loss + self._memory_options.weight * encoding
        self._descend(loss)
        decay = self._options.baseline_decay
        self._baseline = decay * baseline + (1 - decay) * mean_reward
        if self.memory is not None:
            self.memory.add(tokens_NT, reward_N)
        metrics = {"reward": mean_reward, "entropy": entropy.item(), "baseline": self._baseline}
        return metrics if encoding is None else {**metrics, "encoding_loss": encoding.item()}

    def _encoding_loss(self, purpose: str, number: int) -> Tensor | None:
        if self._memory_options is None or self.memory is None or self._decoder is None:
            return None
        if len(self.memory) == 0:  # no warm-up was asked for, and nothing was sampled yet
            return None
        generator = self._seeds.torch(self._stream, purpose, number)
        tokens_BT = self.memory.sample(self._memory_options.batch_size, generator)
        return encoding_loss(
            self.controller, tokens_BT, self._memory_options, self._decoder, generator
        )

    def _descend(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, _MAX_GRAD_NORM)
        self._optimizer.step()

    # What survives.

    def state(self) -> dict[str, Tensor]:
        """Weights, optimiser, baseline and memory, as tensors by name."""
        tensors = {f"controller.{k}": v for k, v in self.controller.state_dict().items()}
        if self._decoder is not None and self.memory is not None:
            tensors |= {f"decoder.{k}": v for k, v in self._decoder.state_dict().items()}
            tensors |= {f"memory.{k}": v for k, v in self.memory.state().items()}
        for i, parameter in enumerate(self._parameters):
            for name, value in self._optimizer.state[parameter].items():
                tensors[f"adam.{i}.{name}"] = value
        if self._baseline is not None:
            tensors["baseline"] = torch.tensor(self._baseline, dtype=torch.float64)
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Goes on from where `state` was taken, by a learner with the same settings."""
        self.controller.load_state_dict(below("controller.", state))
        if self._decoder is not None and self.memory is not None:
            self._decoder.load_state_dict(below("decoder.", state))
            self.memory.load_state(below("memory.", state))
        self._optimizer.state.clear()
        for name, value in below("adam.", state).items():
            index, _, part = name.partition(".")
            self._optimizer.state[self._parameters[int(index)]][part] = value.clone()
        self._baseline = float(state["baseline"]) if "baseline" in state else None
