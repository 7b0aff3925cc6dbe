"""Exit status of the commands."""

FAILED = 1
WRONG_INPUT = 2
INTERRUPTED = 130
