"""Settings of methods whose children share weights: random, ENAS, memory-ENAS. No torch here."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.common.shared_weights_options import SharedWeightsOptions

DEFAULT_POLICY_EVERY = 10


class ControllerOptions(Section):
    """ENAS: an autoregressive LSTM policy and its REINFORCE (arXiv 1802.03268, released code)."""

    hidden_size: Positive = 64
    """Units of the LSTM and of the token embeddings; 100 in the release."""
    temperature: Annotated[float, Field(gt=0)] = 5.0
    """Divisor of the logits; a higher one makes the policy more uniform."""
    tanh_constant: Annotated[float, Field(gt=0)] = 2.5
    """Bound of the logits, `tanh_constant * tanh(logits / temperature)`, which keeps the policy
    stochastic."""
    lr: Annotated[float, Field(gt=0)] = 3.5e-4
    """Learning rate of Adam."""
    entropy_weight: Annotated[float, Field(ge=0)] = 1e-4
    """Weight in the objective of the policy's entropy in nats, summed over the tokens."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the moving average of rewards that is the baseline of REINFORCE."""
    architectures: Positive = 10
    """Architectures sampled and evaluated in one update; with one, training is unstable."""


class MemoryOptions(Section):
    """The buffer of sampled architectures that the controller must be able to encode."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the encoding loss in the objective; with 0 the method is plain ENAS, bit for
    bit."""
    capacity: Positive = 1000
    """Largest number of distinct architectures in the buffer; the oldest is replaced."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Uniformly sampled architectures with which the buffer is filled before the search."""
    batch_size: Positive = 32
    """Architectures from the buffer in one update."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Fraction of the decoder's input tokens that is masked, so that it needs the hidden state."""
    pretrain_steps: Annotated[int, Field(ge=0)] = 0
    """Updates by the encoding loss alone, before the search."""

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        if self.batch_size > self.capacity:
            raise ValueError(
                f"batch_size must be <= capacity, got {self.batch_size} and {self.capacity}; "
                "lower batch_size or raise capacity"
            )
        if self.warmup > self.capacity:
            raise ValueError(
                f"warmup must be <= capacity, got {self.warmup} and {self.capacity}; "
                "lower warmup or raise capacity"
            )
        if self.pretrain_steps > 0 and self.warmup == 0:
            raise ValueError(
                f"pretrain_steps={self.pretrain_steps} needs architectures to learn from; raise "
                "warmup above 0"
            )
        return self


class RandomWsOptions(MethodOptions):
    """Random search with weight sharing: uniform paths, no controller."""

    weights: SharedWeightsOptions = SharedWeightsOptions()
    eval_batch_size: Annotated[int, Field(ge=2)] = 128
    """Validation images in a batch on which an architecture is evaluated with shared weights; the
    reward of the controller comes from one batch."""
    num_candidates: Positive = 100
    """Architectures that are sampled at the end and ranked with shared weights."""
    num_finalists: Annotated[int, Field(ge=5)] = 5
    """Best candidates that are trained from scratch; the best of them is the result. The verdict
    needs 5 or more."""

    @model_validator(mode="after")
    def _finalists_among_candidates(self) -> Self:
        if self.num_finalists > self.num_candidates:
            raise ValueError(
                f"num_finalists must be <= num_candidates, got {self.num_finalists} and "
                f"{self.num_candidates}; lower num_finalists or raise num_candidates"
            )
        return self

    @property
    def policy_every(self) -> int:
        """Weight updates between two updates of the policy; their paths are sampled at once."""
        return DEFAULT_POLICY_EVERY


class EnasOptions(RandomWsOptions):
    """ENAS: the paths come from a controller that learns from their shared-weight accuracy."""

    controller: ControllerOptions = ControllerOptions()
    controller_every: Positive = DEFAULT_POLICY_EVERY
    """Weight updates between two updates of the controller."""

    @property
    def policy_every(self) -> int:
        return self.controller_every

    @property
    def active_memory(self) -> MemoryOptions | None:
        """The memory with which the controller is trained; None for plain ENAS."""
        return None


class MemoryEnasOptions(EnasOptions):
    """ENAS with a memory buffer (arXiv 1904.00438)."""

    memory: MemoryOptions = MemoryOptions()

    @property
    def active_memory(self) -> MemoryOptions | None:
        return self.memory if self.memory.weight > 0 else None
