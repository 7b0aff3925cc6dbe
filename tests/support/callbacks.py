"""Callbacks that a test gives as functions."""

from collections.abc import Callable
from typing import Any

from nascore.context import Callbacks


class CallbacksOf(Callbacks):
    """Callbacks with some methods replaced: `CallbacksOf(should_stop=lambda: True)`."""

    def __init__(self, **functions: Callable[..., Any]) -> None:
        for name, function in functions.items():
            assert hasattr(Callbacks, name), name
            setattr(self, name, function)
