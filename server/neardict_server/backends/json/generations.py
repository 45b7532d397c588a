"""Recognises values as versions 1.0 to 1.3 of the Moobius SDK stored them.

{"<key>": <value>, "_type": "<Class>"}             1.0 and 1.1
{"<key>": <value>, "_type": "<module>.<Class>"}    1.2 and 1.3
<value>                                            since 1.4, with markers where it holds dataclasses
"""

# What JSON can hold without a marker.
_BARE = frozenset({"NoneType", "bool", "dict", "float", "int", "list", "str", "tuple"})


def older_type(key: str, value: object) -> str | None:
    """Returns the `_type` of a value stored by an older version under the key, None if it is not one."""
    if not isinstance(value, dict) or len(value) != 2 or key == "_type" or key not in value:
        return None
    kind = value.get("_type")
    if not isinstance(kind, str) or not all(part.isidentifier() for part in kind.split(".")):
        return None
    return kind


def is_bare(kind: str) -> bool:
    """Returns whether a `_type` means that the value stands for itself, and is no dataclass."""
    return kind.removeprefix("builtins.") in _BARE
