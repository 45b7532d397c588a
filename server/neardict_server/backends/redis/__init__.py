"""Keeps entries in Redis or Valkey: shared by several services, as durable as Redis is set to be.

Operations are carried out by scripts, many in one, each of which is an atom: condition, request id, revision,
value, index and expiry.
Time is Redis' own, since services that share the data need not agree on theirs. docs/redis.md states
the layout and why it is so.
"""

from .backend import RedisBackend

__all__ = ["RedisBackend"]
