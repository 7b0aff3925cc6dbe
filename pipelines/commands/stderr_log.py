"""Log lines of the library on standard error, for commands that take minutes."""

import logging


def log_to_stderr(name: str) -> None:
    """Print the messages of a logger, of level INFO and above, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
