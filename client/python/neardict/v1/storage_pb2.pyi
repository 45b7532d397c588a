import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_DURABLE: _ClassVar[Capability]
    CAPABILITY_TTL: _ClassVar[Capability]
    CAPABILITY_DURABLE_REQUEST_ID: _ClassVar[Capability]
    CAPABILITY_SHARED: _ClassVar[Capability]
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_DURABLE: Capability
CAPABILITY_TTL: Capability
CAPABILITY_DURABLE_REQUEST_ID: Capability
CAPABILITY_SHARED: Capability

class Value(_message.Message):
    __slots__ = ("json", "raw")
    JSON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    json: str
    raw: bytes
    def __init__(self, json: _Optional[str] = ..., raw: _Optional[bytes] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("key", "value", "revision", "expire_time")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: Value
    revision: int
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ..., revision: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetValueRequest(_message.Message):
    __slots__ = ("domain", "key")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class GetValueResponse(_message.Message):
    __slots__ = ("found", "entry", "domain_revision")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    found: bool
    entry: Entry
    domain_revision: int
    def __init__(self, found: bool = ..., entry: _Optional[_Union[Entry, _Mapping]] = ..., domain_revision: _Optional[int] = ...) -> None: ...

class SetValueRequest(_message.Message):
    __slots__ = ("domain", "key", "value", "ttl", "if_revision", "if_absent", "request_id")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    IF_REVISION_FIELD_NUMBER: _ClassVar[int]
    IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    value: Value
    ttl: _duration_pb2.Duration
    if_revision: int
    if_absent: bool
    request_id: str
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., if_revision: _Optional[int] = ..., if_absent: bool = ..., request_id: _Optional[str] = ...) -> None: ...

class SetValueResponse(_message.Message):
    __slots__ = ("revision", "expire_time")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    revision: int
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, revision: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeleteKeyRequest(_message.Message):
    __slots__ = ("domain", "key", "if_revision", "request_id")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IF_REVISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    if_revision: int
    request_id: str
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ..., if_revision: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteKeyResponse(_message.Message):
    __slots__ = ("existed", "revision")
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    revision: int
    def __init__(self, existed: bool = ..., revision: _Optional[int] = ...) -> None: ...

class AllKeysRequest(_message.Message):
    __slots__ = ("domain", "prefix", "include_entries")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    domain: str
    prefix: str
    include_entries: bool
    def __init__(self, domain: _Optional[str] = ..., prefix: _Optional[str] = ..., include_entries: bool = ...) -> None: ...

class AllKeysResponse(_message.Message):
    __slots__ = ("domain_revision", "keys", "entries", "unreadable_keys")
    DOMAIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_KEYS_FIELD_NUMBER: _ClassVar[int]
    domain_revision: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    unreadable_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, domain_revision: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., unreadable_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "limits", "backends", "routes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    limits: Limits
    backends: _containers.RepeatedCompositeFieldContainer[BackendInfo]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, version: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., backends: _Optional[_Iterable[_Union[BackendInfo, _Mapping]]] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_domain_bytes", "max_key_bytes", "max_value_bytes", "max_json_depth", "request_id_window")
    MAX_DOMAIN_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_JSON_DEPTH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_WINDOW_FIELD_NUMBER: _ClassVar[int]
    max_domain_bytes: int
    max_key_bytes: int
    max_value_bytes: int
    max_json_depth: int
    request_id_window: _duration_pb2.Duration
    def __init__(self, max_domain_bytes: _Optional[int] = ..., max_key_bytes: _Optional[int] = ..., max_value_bytes: _Optional[int] = ..., max_json_depth: _Optional[int] = ..., request_id_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class BackendInfo(_message.Message):
    __slots__ = ("name", "implementation", "capabilities")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMPLEMENTATION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    implementation: str
    capabilities: _containers.RepeatedScalarFieldContainer[Capability]
    def __init__(self, name: _Optional[str] = ..., implementation: _Optional[str] = ..., capabilities: _Optional[_Iterable[_Union[Capability, str]]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("domain", "backend")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    domain: str
    backend: str
    def __init__(self, domain: _Optional[str] = ..., backend: _Optional[str] = ...) -> None: ...
