"""Settings of methods whose children share weights: random, ENAS, with a memory. No torch here."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nascore.config import Positive, Section
from nascore.methods.common.method_options import MethodOptions
from nascore.methods.common.shared_weights_options import SharedWeightsOptions


class ControllerOptions(Section):
    """ENAS: an autoregressive LSTM policy and its REINFORCE (arXiv 1802.03268, released code)."""

    hidden_size: Positive = 64
    """Units of the LSTM, and of the token embeddings; 100 in the release."""
    temperature: Annotated[float, Field(gt=0)] = 5.0
    """Logits are divided by it, ..."""
    tanh_constant: Annotated[float, Field(gt=0)] = 2.5
    """... then shaped as `tanh_constant * tanh(logits)`, so that the policy stays stochastic."""
    lr: Annotated[float, Field(gt=0)] = 3.5e-4
    """Of Adam."""
    entropy_weight: Annotated[float, Field(ge=0)] = 1e-4
    """Weight of the policy's entropy, summed over the tokens; it is added to the objective only."""
    baseline_decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Of the moving average of rewards that is subtracted from a reward."""
    architectures: Positive = 10
    """Sampled, and judged, for one update; with one, training is unstable."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients of the controller are scaled down to this norm."""


class MemoryOptions(Section):
    """The buffer of sampled architectures that the controller must be able to encode."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the encoding loss beside REINFORCE; at 0 the method is plain ENAS, bit for bit."""
    mode: Literal["reconstruct", "nll", "self"] = "reconstruct"
    """`reconstruct`: a decoder must read the architecture off the last hidden state; `nll`: the
    policy must find it likely; `self`: the policy, started from that state, must repeat it."""
    capacity: Positive = 1000
    """Different architectures that are kept; the oldest makes room."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Uniform architectures that fill it first."""
    batch_size: Positive = 32
    """Remembered architectures of one update."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the decoder's input tokens that are hidden from it, so that it needs the state."""
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
    reward_batch: Annotated[int, Field(ge=2)] = 128
    """Validation images on which one architecture is judged with shared weights."""
    num_candidates: Positive = 100
    """Architectures drawn at the end and ranked with shared weights."""
    num_finalists: Annotated[int, Field(ge=5)] = 5
    """Of the ranked, trained from scratch; the best of them is the result. The verdict needs 5."""
    finalists_share: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Of a budget of time, kept for them; a budget of steps counts shared weights alone."""
    checkpoint_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds between checkpoints."""

    @model_validator(mode="after")
    def _finalists_among_candidates(self) -> Self:
        if self.num_finalists > self.num_candidates:
            raise ValueError(
                f"num_finalists must be <= num_candidates, got {self.num_finalists} and "
                f"{self.num_candidates}; lower num_finalists or raise num_candidates"
            )
        return self


class EnasOptions(RandomWsOptions):
    """ENAS: the paths come from a controller that learns from their shared-weight accuracy."""

    controller: ControllerOptions = ControllerOptions()
    controller_every: Positive = 10
    """Weight steps between updates of the controller."""
    start_after: Annotated[int, Field(ge=0)] = 0
    """Weight steps on uniform paths before the controller acts and learns."""
    diagnose_every: Annotated[int, Field(ge=0)] = 25
    """Controller updates between looks at what its hidden state remembers; 0 never looks."""


class MemoryEnasOptions(EnasOptions):
    """ENAS with a memory buffer (arXiv 1904.00438)."""

    memory: MemoryOptions = MemoryOptions()
