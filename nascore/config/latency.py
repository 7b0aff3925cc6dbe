"""Settings of the latency measurement."""

from typing import Annotated, Literal

from pydantic import Field

from nascore.section import Positive, Section


class LatencyConfig(Section):
    """Protocol of the latency measurement; it is stored with the result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the measurement; `auto` takes a GPU when there is one."""
    batch_size: Positive = 1
    """Images in one measured call."""
    warmup_runs: Annotated[int, Field(ge=0)] = 20
    """Calls before the measured ones."""
    runs: Annotated[int, Field(ge=20)] = 200
    """Measured calls; at least 20, since the result has a 95th percentile."""
    threads: Positive | None = None
    """CPU threads; by default all that the process may use."""
    target_ms: Annotated[float, Field(gt=0)] | None = None
    """Largest median latency that the model should have; reported, not enforced."""
