"""Passwords, tokens and keys removed from messages, logs and files.

Two ways: what looks like a secret (in an address, a query, a header), and the values of the
environment variables that hold secrets, wherever they stand.
"""

import os
import re

# user:password@, also within longer text; a password may hold @, : and /, but HOST:PORT/ is none.
# The word PASSWORD is the placeholder of our own advice. A secret made of a file has a line break.
_PASSWORD = re.compile(
    r"(://[^:/@\s]*):(?!\d+/|PASSWORD@)(?:[^\s/]*[\r\n]+[^\s/@]*@(?:\S*@)?|\S*@)"
)
_TOKEN = re.compile(r"(https?://)[^:/@\s]+[\r\n]*@")
# S3 has no user names; the part before an @ is an access key or its secret.
_S3 = re.compile(r"(s3[an]?://?)(?:[^/\s]*|[^:/@\s]+:\S*)@")
_SECRET = r"(?:password|passwd|pwd|token|secret|api_?key|access_?key|signature|credential|sig)"
_AND = r"\\u0026"  # the & of a query in JSON, as Go's programs write it
_QUERY = re.compile(rf"(?i)((?:[?&]|{_AND})[^=&\s\\]*{_SECRET}[^=&\s\\]*=)(?:(?!{_AND})[^&\s])+")
_PAIR = re.compile(rf"(?i)((?:^|[;\s]){_SECRET}=)[^;\s]+")  # host=db password=...
_BEARER = re.compile(r"(?i)\b(bearer\s+)(?!(?:token|authentication|scheme|prefix)\b)[^\s'\"]+")
# Base64 has a digit, a sign or a capital letter inside; the words after "Basic" have none.
_BASIC = re.compile(r"\b([Bb]asic\s+)(?=[\w+/=-]+[\dA-Z+/=])[\w+/=-]{6,}")
_AUTHORIZATION = re.compile(
    r"(?i)(authorization['\"]?\s*[:=]\s*(?:b?['\"])?)(?:[a-z][\w-]*[ \t]+)?[^\s'\"]+"
)
_HEADER = re.compile(
    r"(?i)\b((?:x-[\w-]*(?:token|key)|private-token|(?:set-)?cookie)['\"]?\s*:\s*(?:b?['\"])?)"
    r"[^\r\n'\"]+"
)
_VARIABLE = re.compile(r"(?i)password|passwd|pwd$|secret|token|access_?key$|api_?key|credential")
# Where a secret lies, or whose it is; PWD and OLDPWD are the shell's folders.
_NO_SECRET = re.compile(r"(?i)_(file|path|dir|ur[il]|id|name)$|^(old)?pwd$")
_MIN_LENGTH = 8  # a shorter value would be found in ordinary words
# A user may leave spaces in a password, which no URI can hold.
_SPACED = re.compile(r"^([\w+.-]+://)[^/?#]*:[^/?#]*@")
HIDDEN = "***"


def redact(text: str) -> str:
    """Return a URI, or any text, without passwords, tokens and keys."""
    for secret in _secrets_of_environment():
        text = text.replace(secret, HIDDEN)
    text = _S3.sub(rf"\1{HIDDEN}@", text)
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\1{HIDDEN}@", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", _AUTHORIZATION.sub(rf"\1{HIDDEN}", text))
    text = _BASIC.sub(rf"\1{HIDDEN}", _BEARER.sub(rf"\1{HIDDEN}", text))
    return _PAIR.sub(rf"\1{HIDDEN}", _QUERY.sub(rf"\1{HIDDEN}", text))


def redact_setting(value: str) -> str:
    """Return a single value without secrets: more is certain than in the middle of a text."""
    shown = redact(value)
    if shown == value:
        shown = _SPACED.sub(rf"\1{HIDDEN}@", value)
    # The scheme was forgotten; models:/NAME@ALIAS is a model in a registry.
    if "://" not in shown and re.match(r"(?!models:/)[^\s/]+:\S+@", shown):
        return f"{HIDDEN}@{shown.rpartition('@')[2]}"
    return shown


def _secrets_of_environment() -> list[str]:
    """Return the values of variables that hold secrets, longest first.

    A value may have a line break, as a secret made of a file has; each of its lines counts.
    """
    # Not items(): another thread may remove a variable meanwhile.
    names = [name for name in os.environ if _VARIABLE.search(name) and not _NO_SECRET.search(name)]
    values = [os.environ.get(name, "") for name in names]
    parts = {part for value in values for part in (value, *value.split())}
    return sorted((part for part in parts if len(part) >= _MIN_LENGTH), key=len, reverse=True)
