"""Entry of the method, with a requirement of its own."""

from collections.abc import Sequence

from nascore.methods.copycat.options import CopycatOptions

from nascore.errors import Problem
from nascore.methods.base import Method
from nascore.methods.requirements import RunSettings


class SmallBudget:
    """At most a hundred children."""

    def problems(self, run: RunSettings) -> Sequence[Problem]:
        children = run.search.budget.children
        if children is None or children <= 100:
            return ()
        return (Problem("search.budget.children", str(children), "set it to at most 100"),)


METHODS = {
    "copycat": Method(
        "samples uniformly",
        CopycatOptions,
        "nascore.methods.copycat.method",
        requirements=(SmallBudget(),),
        report="nascore.methods.copycat.report",
    )
}
