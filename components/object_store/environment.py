"""AWS variables of the environment, without the white space that files and editors add to them."""

import logging
import os

_log = logging.getLogger(__name__)

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", *ENDPOINTS),
)


def tidy_environment() -> None:
    """Remove white space around the values of AWS variables, and AWS_PROFILE where it is empty.

    A Secret that is made of a file ends with its line break, and a variable of a file with Windows
    line ends with a carriage return; botocore would send both. Processes that are started later
    inherit the clean values, so that the warning is printed once.
    """
    changed = []
    for name in _VARIABLES:
        value = os.environ.get(name)
        if value is None:
            continue
        clean = value.strip().strip("\ufeff").strip()
        if clean != value:
            os.environ[name] = clean
            changed.append(name)
    if os.environ.get("AWS_PROFILE") == "":
        del os.environ["AWS_PROFILE"]  # botocore would look for a profile without a name
    if changed:
        _log.warning(
            "white space or a line break around the value of %s was removed; correct the Secret "
            "or the file that sets it",
            " and ".join(changed),
        )
