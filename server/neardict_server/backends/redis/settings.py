"""The settings of a redis backend."""

import re
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, FilePath, SecretStr, field_validator, model_validator

from .. import base


def _zero_for_none(db: Any) -> Any:
    return 0 if db is None else db


def _is_plain(url: str) -> bool:
    """Returns whether redis-py reads all of the URL. Options in its query could undo our bounds."""
    parts = urlsplit(url)
    return (
        parts.scheme in ("redis", "rediss")
        and bool(parts.hostname)
        and parts.port != 0
        and re.fullmatch(r"(/[0-9]*)?", parts.path) is not None
        and not parts.query
        and not parts.fragment
    )


class RedisSettings(base.Settings):
    """`[backends.NAME.settings]` of a redis backend."""

    host: str = Field(default="localhost", min_length=1)
    port: int = Field(default=6379, ge=1, le=65535)
    # Null, as Moobius files have it, is 0.
    db: Annotated[int, BeforeValidator(_zero_for_none)] = Field(default=0, ge=0)
    username: str | None = None
    password: SecretStr | None = None
    ssl: bool = False
    # Whether host and port are of a node of a Cluster. It names the others.
    cluster: bool = False
    # In place of host and port: the addresses of Sentinels, HOST:PORT, and what they call this Redis. They
    # may have credentials of their own.
    sentinels: tuple[Annotated[str, Field(pattern=r"^\S+:[0-9]{1,5}$")], ...] = ()
    sentinel_service: str = Field(default="mymaster", min_length=1)
    sentinel_username: str | None = None
    sentinel_password: SecretStr | None = None
    # In place of all of the above: redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], rediss:// for TLS.
    url: SecretStr | None = None
    # Certificates to trust, in PEM; by default the system's.
    ssl_ca_file: FilePath | None = None
    # What all names in Redis begin with. Different ones keep neardicts in one Redis apart.
    key_prefix: str = Field(default="neardict", pattern=r"^[A-Za-z0-9_.:/-]{1,64}$")
    connect_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    command_timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    max_connections: int = Field(default=32, ge=1, le=1024)

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            try:
                usable = _is_plain(url.get_secret_value())
            except ValueError:
                usable = False
            if not usable:
                raise ValueError(
                    "must be redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], or the same with rediss:// for "
                    "TLS, without options after it; special characters in it are percent-encoded"
                )
        return url

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if self.url is not None:
            for name in ("host", "port", "db", "username", "password", "ssl", "sentinels"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"url and {name} are both given: leave one of them out")
        if self.sentinels:
            for name in ("host", "port", "cluster"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"sentinels and {name} are both given: leave one of them out")
        if self.cluster and self.db:
            raise ValueError("a Cluster has database 0 alone: leave db out")
        secure = self.ssl or (self.url is not None and self.url.get_secret_value().startswith("rediss:"))
        if self.ssl_ca_file is not None and not secure:
            raise ValueError("ssl_ca_file is of use with TLS only: set ssl = true, or a rediss:// url")
        return self
