"""Settings that were renamed, old dotted key to new dotted key: one table, for this release only.

A configuration that still has the old key is refused with the new one in the message.
"""

RENAMED: dict[str, str] = {}
