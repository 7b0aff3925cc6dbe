"""Settings of the latency measurement."""

from typing import Annotated, Literal

from pydantic import Field

from nascore.section import Positive, Section


class LatencyConfig(Section):
    """The protocol of the latency measurement; it travels with the number."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where latency is measured; `auto` takes a GPU when there is one."""
    batch_size: Positive = 1
    """Images of one measured call."""
    warmup_runs: Annotated[int, Field(ge=0)] = 20
    """Calls before the measured ones."""
    runs: Annotated[int, Field(ge=20)] = 200
    """At least 20: a 95th percentile of fewer runs says nothing."""
    threads: Positive | None = None
    """CPU threads; all that the process may use when not given."""
    target_ms: Annotated[float, Field(gt=0)] | None = None
    """Median latency that the model is held against; reported, not enforced."""
