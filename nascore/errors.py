"""Errors that a caller catches. Others are ValueErrors or failed assertions."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from nascore.redaction import redact


def visible(text: str, but: str = "") -> str:
    """Return a text with control characters and other invisible ones as escape sequences.

    Args:
        text: any text.
        but: characters that stay as they are.
    """
    return "".join(
        one if one.isprintable() or one in but else one.encode("unicode_escape").decode()
        for one in text
    )


@dataclass(frozen=True)
class Problem:
    """One problem of the input.

    Attributes:
        key: its place: a configuration key such as `search.budget.children`, or a file.
        value: the value that was found, as text; empty when there was none.
        message: the reason, and what to do.
    """

    key: str
    value: str
    message: str

    def __post_init__(self) -> None:
        # Problems are written to logs, files and the tracking server.
        object.__setattr__(self, "key", visible(self.key))
        object.__setattr__(self, "value", visible(redact(self.value)))
        object.__setattr__(self, "message", visible(redact(self.message), but="\n"))

    def to_json(self) -> dict[str, str]:
        """Return the three texts; subclasses may add more."""
        return {"key": self.key, "value": self.value, "message": self.message}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Problem":
        """Read what `to_json` of any subclass returned."""
        return Problem(str(fields["key"]), str(fields["value"]), str(fields["message"]))

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.key}{shown}: {self.message}"


class InputError(Exception):
    """The input is wrong; nothing was started. Lists every problem, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an InputError needs a problem"
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)  # else another process would get the text alone

    @classmethod
    def of(cls, key: str, value: object, message: str) -> Self:
        """Return an error of one problem."""
        return cls([Problem(key, "" if value is None else str(value), message)])


class ResourceUnavailable(InputError):
    """A resource that the input names (a server, credential, disk or device) is unavailable.

    The same input may work later, so the step is worth a retry; other wrong input is not.
    """


def error_of(errors: Sequence[InputError]) -> InputError:
    """Return one error of all problems; it may be retried only where each of them may."""
    problems = [problem for error in errors for problem in error.problems]
    is_outside = all(isinstance(error, ResourceUnavailable) for error in errors)
    return ResourceUnavailable(problems) if is_outside else InputError(problems)


class ServiceUnavailable(Exception):
    """A service stayed unreachable for too long.

    The work that has ended is kept; the same work may succeed later.

    Attributes:
        service: such as `study database`, `tracking server` or `model registry`.
    """

    def __init__(self, service: str, message: str) -> None:
        super().__init__(service, message)
        self.service = service

    def __str__(self) -> str:
        return str(self.args[1])


@contextlib.contextmanager
def collect_problems(problems: list[Problem]) -> Iterator[None]:
    """Append the problems of an InputError in the block, so that later checks still run."""
    try:
        yield
    except InputError as error:
        problems += error.problems


class GenotypeNotInSpace(ValueError):
    """A genotype names another space, has the wrong length, or a token out of range."""


class ChildFailedError(Exception):
    """A child could not be trained (loss not finite, out of memory); the search continues.

    Attributes:
        num_steps: weight updates until the failure.
    """

    def __init__(self, reason: str, *, num_steps: int = 0) -> None:
        super().__init__(reason)
        self.num_steps = num_steps


class LossNotFiniteError(ChildFailedError):
    """The loss or a weight of a training is not finite; another try would end alike."""


class CheckpointError(Exception):
    """A checkpoint is damaged, or was written by another space, method or version."""


class WeightsDivergedError(Exception):
    """The loss of shared weights is not finite."""
