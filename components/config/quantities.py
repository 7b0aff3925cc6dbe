"""Amounts of processors and memory as people write them, converted to Kubernetes' notation."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator

_MIN_BYTES = 2**20  # A smaller amount is one without its unit, such as 16 for 16Gi.
_NUMBER = r"(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)"
_CPU = re.compile(_NUMBER + r"\s*(m?)")
_BYTES = re.compile(_NUMBER + r"\s*(?:([kKmMgGtTpPeE])(i?)([bB]?))?")
_LETTERS = "KMGTPE"
_CPU_EXAMPLES = "write a number such as 4 or 0.5, or thousandths such as 500m"
_BYTES_EXAMPLES = "write a number and a unit, such as 16Gi (2^30 bytes) or 16GB (10^9 bytes)"


def check_cpu(value: object) -> str:
    """Return a number of processors in Kubernetes' notation: 4, or 500m for half of one.

    Raises:
        ValueError: it is none.
    """
    match = _CPU.fullmatch(_text(value))
    if match is None:
        raise ValueError(f"is not a number of processors; {_CPU_EXAMPLES}")
    milli = Decimal(match[1]) * (1 if match[2] else 1000)
    if milli < 1 or milli != int(milli):
        raise ValueError(f"must be at least 0.001, in steps of 0.001; {_CPU_EXAMPLES}")
    return str(int(milli) // 1000) if milli % 1000 == 0 else f"{int(milli)}m"


def check_bytes(value: object) -> str:
    """Return an amount of memory in Kubernetes' notation, such as 16Gi or 16G.

    Whole numbers and the units from M and Mi on are the ones that kfp's compiler takes.

    Raises:
        ValueError: it is none, or so small that its unit must have been forgotten.
    """
    match = _BYTES.fullmatch(_text(value))
    if match is None:
        raise ValueError(f"is not an amount of memory; {_BYTES_EXAMPLES}")
    number, letter, binary, unit = match.groups()
    if letter == "m" and not binary and not unit:
        raise ValueError(f"is in thousandths of a byte for Kubernetes; {_BYTES_EXAMPLES}")
    base = 1024 if binary else 1000
    power = _LETTERS.index(letter.upper()) + 1 if letter else 0
    amount = Decimal(number) * base**power
    if amount < _MIN_BYTES:
        raise ValueError(f"is less than 1Mi; {_BYTES_EXAMPLES}")
    return _in_units(amount, base, power)


def _in_units(amount: Decimal, base: int, power: int) -> str:
    """Return bytes in the given unit, or in the next smaller one in which they are whole."""
    while power > 1:
        scaled = amount / base**power
        if scaled == int(scaled):
            return f"{int(scaled)}{_LETTERS[power - 1]}{'i' if base == 1024 else ''}"
        power -= 1
    return str(int(amount))


def _text(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value).strip() if is_number or isinstance(value, str) else ""


Cpu = Annotated[str, BeforeValidator(check_cpu)]
"""Processors in Kubernetes' notation: `4`, or `500m` for half of one."""
Bytes = Annotated[str, BeforeValidator(check_bytes)]
"""Memory in Kubernetes' notation, such as `16Gi`."""
