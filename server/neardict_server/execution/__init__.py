"""The streams of Execute: many operations at once, in order on each domain."""

from .executions import Executions

__all__ = ["Executions"]
