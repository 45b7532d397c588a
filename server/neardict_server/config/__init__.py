"""The server's configuration: read once at start, checked whole, then frozen."""

from .load import load
from .model import BackendConfig, Config, ConfigError, RouteConfig

__all__ = ["BackendConfig", "Config", "ConfigError", "RouteConfig", "load"]
