"""Limits of the configuration that a network must keep to be shipped in place of the found one."""

from collections.abc import Mapping
from typing import Any

from components.config.schema import Config


def over_limit(config: Config, row: Mapping[str, Any]) -> str | None:
    """Return which limit of the configuration a network exceeds; None if it keeps all.

    Args:
        config: of the run.
        row: measurements of the network: `params`, `macs` and `latency_ms`.
    """
    promote, cost = config.promote, config.search.cost
    limits: list[tuple[str, str, float | None]] = [
        ("promote.max_params", "params", promote.max_params),
        ("promote.max_latency_ms", "latency_ms", promote.max_latency_ms),
    ]
    if cost is not None:
        key = {"num_params": "params"}.get(cost.metric, cost.metric)
        limits.append(("search.cost.limit", key, cost.limit))
    for setting, key, limit in limits:
        if limit is not None and row[key] > limit:
            return f"{row[key]:,.6g} is over {setting} = {limit:,.6g}"
    return None
