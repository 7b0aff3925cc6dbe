"""Limits of the configuration that keep a network from being shipped in place of the found one."""

from typing import Any

import pytest

from components.config.schema import parse
from components.steps.shipping_limits import over_limit

ROW = {"params": 11_000_000, "macs": 500_000_000, "latency_ms": 4.5}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, None),
        ({"promote": {"max_params": 11_000_000}}, None),
        ({"promote": {"max_params": 10_999_999}}, "promote.max_params"),
        ({"promote": {"max_latency_ms": 4.4}}, "promote.max_latency_ms"),
        ({"search": {"cost": {"metric": "num_params", "limit": 1e6}}}, "search.cost.limit"),
        ({"search": {"cost": {"metric": "macs", "limit": 1e9}}}, None),
        ({"search": {"cost": {"metric": "macs", "limit": 1e8}}}, "search.cost.limit"),
        ({"search": {"cost": {"metric": "latency_ms", "limit": 4.4}}}, "search.cost.limit"),
        ({"search": {"cost": {"metric": "macs", "target": 1e8}}}, None),  # no limit
    ],
)
def test_a_limit_of_the_configuration_is_one_for_standard_networks(
    settings: dict[str, Any], reason: str | None
) -> None:
    found = over_limit(parse({"method": "random", **settings}), ROW)
    assert (found is None) == (reason is None)
    if reason is not None:
        assert found is not None
        assert f"is over {reason} = " in found
