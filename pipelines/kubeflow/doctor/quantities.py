"""Quantities of resources in Kubernetes notation, and totals of a pod."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import Any

CPU, MEMORY = "cpu", "memory"
_BINARY = ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)

Amounts = dict[str, Decimal]
"""Amounts by name of the resource, in CPUs, bytes or pieces."""


def parse(text: str | int | float) -> Decimal:
    """Parse a quantity such as `500m`, `1.5Gi`, `1e3` or `4`. Raises ValueError."""
    from kubernetes.utils import parse_quantity  # type: ignore[import-untyped]

    return Decimal(parse_quantity(text))


def amounts(given: Mapping[str, Any] | None) -> Amounts:
    """Parse a mapping of resources to quantities; None is an empty one."""
    return {name: parse(text) for name, text in (given or {}).items()}


def show(resource: str, amount: Decimal) -> str:
    """Return an amount as text, memory and storage in binary units."""
    if MEMORY in resource or "storage" in resource:
        for unit, size in _BINARY:
            if abs(amount) >= size:
                return f"{float(amount / size):.4g}{unit}"
    return f"{amount.normalize():f}"


def add(*parts: Amounts) -> Amounts:
    """Return the sum of amounts, resource by resource."""
    names = {name: None for part in parts for name in part}  # in their order
    return {name: sum((part.get(name, Decimal(0)) for part in parts), Decimal(0)) for name in names}


def larger(one: Amounts, other: Amounts) -> Amounts:
    """Return the larger amount of each resource."""
    names = {**one, **other}
    zero = Decimal(0)
    return {name: max(one.get(name, zero), other.get(name, zero)) for name in names}


@dataclass(frozen=True, slots=True)
class Container:
    """Requests and limits of a container."""

    name: str
    requests: Amounts
    limits: Amounts

    @classmethod
    def of(cls, name: str, resources: Mapping[str, Any] | None) -> "Container":
        """Parse the `resources` of a container; a limit without a request is the request too."""
        limits = amounts((resources or {}).get("limits"))
        return cls(name, limits | amounts((resources or {}).get("requests")), limits)

    def with_defaults(self, requests: Amounts, limits: Amounts) -> "Container":
        """Return the container with defaults of a limit range for what it does not name."""
        limits = limits | self.limits
        return Container(self.name, requests | self.requests, limits)


@dataclass(frozen=True, slots=True)
class PodDemand:
    """Containers of a pod: those that run together, and the init containers before them."""

    main: tuple[Container, ...]
    before: tuple[Container, ...] = ()

    @property
    def containers(self) -> tuple[Container, ...]:
        return self.main + self.before

    def with_defaults(self, requests: Amounts, limits: Amounts) -> "PodDemand":
        """Return the pod with the defaults of a limit range."""
        return PodDemand(
            tuple(one.with_defaults(requests, limits) for one in self.main),
            tuple(one.with_defaults(requests, limits) for one in self.before),
        )

    @property
    def requests(self) -> Amounts:
        """Requests of the pod as the scheduler and quotas count them."""
        together = add(*(one.requests for one in self.main))
        return reduce(larger, (one.requests for one in self.before), together)

    @property
    def limits(self) -> Amounts:
        """Limits of the pod as quotas count them."""
        together = add(*(one.limits for one in self.main))
        return reduce(larger, (one.limits for one in self.before), together)
