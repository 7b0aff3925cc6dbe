"""Settings of the method."""

from nascore.methods.common.method_options import MethodOptions


class CopycatOptions(MethodOptions):
    """Settings of the method."""

    width: int = 2
    """Shown in the report."""
