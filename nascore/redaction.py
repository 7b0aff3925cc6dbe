"""What may be a password or a token, taken out of what people and files get to see."""

import re

# user:password@, also within longer text; a password may hold @, : and /, but HOST:PORT/ is none.
_PASSWORD = re.compile(r"(://[^:/@\s]*):(?!\d+/)\S*@")
_TOKEN = re.compile(r"(https?://)[^:/@\s]+@")
# There is no user in S3; what stands before an @ is an access key or its secret.
_S3 = re.compile(r"(s3[an]?://?)(?:[^/\s]*|[^:/@\s]+:\S*)@")
_SECRET = r"(?:password|passwd|pwd|token|secret|api_?key|access_?key|signature|credential)"
_QUERY = re.compile(rf"(?i)([?&][^=&\s]*{_SECRET}[^=&\s]*=)[^&\s]+")
_PAIR = re.compile(rf"(?i)((?:^|[;\s]){_SECRET}=)[^;\s]+")  # host=db password=...
# A person may leave spaces in a password, which no URI can hold.
_SPACED = re.compile(r"^([\w+.-]+://)[^/?#]*:[^/?#]*@")
HIDDEN = "***"


def redact(text: str) -> str:
    """A URI, or a text with URIs in it, without passwords and tokens."""
    text = _S3.sub(rf"\1{HIDDEN}@", text)
    text = _PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\1{HIDDEN}@", text)
    return _PAIR.sub(rf"\1{HIDDEN}", _QUERY.sub(rf"\1{HIDDEN}", text))


def redact_setting(value: str) -> str:
    """The same for a single value; here more is certain than in the middle of a text."""
    shown = redact(value)
    if shown == value:
        shown = _SPACED.sub(rf"\1{HIDDEN}@", value)
    if "://" not in shown and re.match(r"[^\s/]+:\S+@", shown):  # the scheme was forgotten
        return f"{HIDDEN}@{shown.rpartition('@')[2]}"
    return shown
