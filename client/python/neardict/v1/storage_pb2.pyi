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

class Compression(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPRESSION_UNSPECIFIED: _ClassVar[Compression]
    COMPRESSION_ZSTD: _ClassVar[Compression]

class Capability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAPABILITY_UNSPECIFIED: _ClassVar[Capability]
    CAPABILITY_DURABLE: _ClassVar[Capability]
    CAPABILITY_TTL: _ClassVar[Capability]
    CAPABILITY_DURABLE_REQUEST_ID: _ClassVar[Capability]
    CAPABILITY_SHARED: _ClassVar[Capability]
    CAPABILITY_LEASES: _ClassVar[Capability]
    CAPABILITY_WATCH: _ClassVar[Capability]
COMPRESSION_UNSPECIFIED: Compression
COMPRESSION_ZSTD: Compression
CAPABILITY_UNSPECIFIED: Capability
CAPABILITY_DURABLE: Capability
CAPABILITY_TTL: Capability
CAPABILITY_DURABLE_REQUEST_ID: Capability
CAPABILITY_SHARED: Capability
CAPABILITY_LEASES: Capability
CAPABILITY_WATCH: Capability

class Value(_message.Message):
    __slots__ = ("json", "raw", "json_zstd", "raw_zstd")
    JSON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    JSON_ZSTD_FIELD_NUMBER: _ClassVar[int]
    RAW_ZSTD_FIELD_NUMBER: _ClassVar[int]
    json: str
    raw: bytes
    json_zstd: bytes
    raw_zstd: bytes
    def __init__(self, json: _Optional[str] = ..., raw: _Optional[bytes] = ..., json_zstd: _Optional[bytes] = ..., raw_zstd: _Optional[bytes] = ...) -> None: ...

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
    __slots__ = ("domain", "key", "accept")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    accept: Compression
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ..., accept: _Optional[_Union[Compression, str]] = ...) -> None: ...

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
    __slots__ = ("domain", "key", "value", "ttl", "if_revision", "if_absent", "request_id", "keep_ttl")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    IF_REVISION_FIELD_NUMBER: _ClassVar[int]
    IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_TTL_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    value: Value
    ttl: _duration_pb2.Duration
    if_revision: int
    if_absent: bool
    request_id: str
    keep_ttl: bool
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., if_revision: _Optional[int] = ..., if_absent: bool = ..., request_id: _Optional[str] = ..., keep_ttl: bool = ...) -> None: ...

class SetValueResponse(_message.Message):
    __slots__ = ("revision", "expire_time")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    revision: int
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, revision: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReadValueRequest(_message.Message):
    __slots__ = ("domain", "key", "accept")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    accept: Compression
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ..., accept: _Optional[_Union[Compression, str]] = ...) -> None: ...

class ReadValueResponse(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: ReadValueHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[ReadValueHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ReadValueHead(_message.Message):
    __slots__ = ("answer", "size")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    answer: GetValueResponse
    size: int
    def __init__(self, answer: _Optional[_Union[GetValueResponse, _Mapping]] = ..., size: _Optional[int] = ...) -> None: ...

class WriteValueRequest(_message.Message):
    __slots__ = ("head", "chunk")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    head: WriteValueHead
    chunk: bytes
    def __init__(self, head: _Optional[_Union[WriteValueHead, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class WriteValueResponse(_message.Message):
    __slots__ = ("revision", "expire_time")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    revision: int
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, revision: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WriteValueHead(_message.Message):
    __slots__ = ("request", "size", "content_size")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    request: SetValueRequest
    size: int
    content_size: int
    def __init__(self, request: _Optional[_Union[SetValueRequest, _Mapping]] = ..., size: _Optional[int] = ..., content_size: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("domain", "prefix", "include_entries", "accept")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    domain: str
    prefix: str
    include_entries: bool
    accept: Compression
    def __init__(self, domain: _Optional[str] = ..., prefix: _Optional[str] = ..., include_entries: bool = ..., accept: _Optional[_Union[Compression, str]] = ...) -> None: ...

class AllKeysResponse(_message.Message):
    __slots__ = ("domain_revision", "keys", "entries", "unreadable_keys", "total_keys", "large_keys")
    DOMAIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_KEYS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_KEYS_FIELD_NUMBER: _ClassVar[int]
    LARGE_KEYS_FIELD_NUMBER: _ClassVar[int]
    domain_revision: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    unreadable_keys: _containers.RepeatedScalarFieldContainer[str]
    total_keys: int
    large_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, domain_revision: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., unreadable_keys: _Optional[_Iterable[str]] = ..., total_keys: _Optional[int] = ..., large_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("operations", "cancelled_numbers")
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    cancelled_numbers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., cancelled_numbers: _Optional[_Iterable[int]] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("number", "get_value", "set_value", "delete_key", "timeout_milliseconds")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    GET_VALUE_FIELD_NUMBER: _ClassVar[int]
    SET_VALUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_KEY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    number: int
    get_value: GetValueRequest
    set_value: SetValueRequest
    delete_key: DeleteKeyRequest
    timeout_milliseconds: int
    def __init__(self, number: _Optional[int] = ..., get_value: _Optional[_Union[GetValueRequest, _Mapping]] = ..., set_value: _Optional[_Union[SetValueRequest, _Mapping]] = ..., delete_key: _Optional[_Union[DeleteKeyRequest, _Mapping]] = ..., timeout_milliseconds: _Optional[int] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("number", "get_value", "set_value", "delete_key", "error")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    GET_VALUE_FIELD_NUMBER: _ClassVar[int]
    SET_VALUE_FIELD_NUMBER: _ClassVar[int]
    DELETE_KEY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    number: int
    get_value: GetValueResponse
    set_value: SetValueResponse
    delete_key: DeleteKeyResponse
    error: OperationError
    def __init__(self, number: _Optional[int] = ..., get_value: _Optional[_Union[GetValueResponse, _Mapping]] = ..., set_value: _Optional[_Union[SetValueResponse, _Mapping]] = ..., delete_key: _Optional[_Union[DeleteKeyResponse, _Mapping]] = ..., error: _Optional[_Union[OperationError, _Mapping]] = ...) -> None: ...

class OperationError(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("subscribe", "unsubscribe", "ping", "revoked")
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    subscribe: Subscribe
    unsubscribe: Unsubscribe
    ping: Ping
    revoked: Revoked
    def __init__(self, subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., unsubscribe: _Optional[_Union[Unsubscribe, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., revoked: _Optional[_Union[Revoked, _Mapping]] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("domain", "from_revision", "lease")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    domain: str
    from_revision: int
    lease: bool
    def __init__(self, domain: _Optional[str] = ..., from_revision: _Optional[int] = ..., lease: bool = ...) -> None: ...

class Unsubscribe(_message.Message):
    __slots__ = ("domain",)
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    def __init__(self, domain: _Optional[str] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("subscribed", "rejected", "changes", "heartbeat", "reset", "revoke", "release")
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    subscribed: Subscribed
    rejected: Rejected
    changes: Changes
    heartbeat: Heartbeat
    reset: Reset
    revoke: Revoke
    release: Release
    def __init__(self, subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., changes: _Optional[_Union[Changes, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., revoke: _Optional[_Union[Revoke, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("domain", "revision", "complete", "lease_duration")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    domain: str
    revision: int
    complete: bool
    lease_duration: _duration_pb2.Duration
    def __init__(self, domain: _Optional[str] = ..., revision: _Optional[int] = ..., complete: bool = ..., lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("domain", "code", "reason", "message")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    domain: str
    code: int
    reason: str
    message: str
    def __init__(self, domain: _Optional[str] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Changes(_message.Message):
    __slots__ = ("domain", "changes", "revision")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    domain: str
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    revision: int
    def __init__(self, domain: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("key", "revision", "kind", "value", "expire_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Change.Kind]
        KIND_SET: _ClassVar[Change.Kind]
        KIND_DELETE: _ClassVar[Change.Kind]
    KIND_UNSPECIFIED: Change.Kind
    KIND_SET: Change.Kind
    KIND_DELETE: Change.Kind
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    key: str
    revision: int
    kind: Change.Kind
    value: Value
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, key: _Optional[str] = ..., revision: _Optional[int] = ..., kind: _Optional[_Union[Change.Kind, str]] = ..., value: _Optional[_Union[Value, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("uncertain_domains", "ping")
    UNCERTAIN_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    uncertain_domains: _containers.RepeatedScalarFieldContainer[str]
    ping: int
    def __init__(self, uncertain_domains: _Optional[_Iterable[str]] = ..., ping: _Optional[int] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("domain", "reason")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Reset.Reason]
        REASON_SLOW_CONSUMER: _ClassVar[Reset.Reason]
        REASON_LOG_LOST: _ClassVar[Reset.Reason]
    REASON_UNSPECIFIED: Reset.Reason
    REASON_SLOW_CONSUMER: Reset.Reason
    REASON_LOG_LOST: Reset.Reason
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    domain: str
    reason: Reset.Reason
    def __init__(self, domain: _Optional[str] = ..., reason: _Optional[_Union[Reset.Reason, str]] = ...) -> None: ...

class Revoke(_message.Message):
    __slots__ = ("domain", "key", "number")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    domain: str
    key: str
    number: int
    def __init__(self, domain: _Optional[str] = ..., key: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("version", "limits", "backends", "routes", "heartbeat_period", "compressions")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_PERIOD_FIELD_NUMBER: _ClassVar[int]
    COMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    limits: Limits
    backends: _containers.RepeatedCompositeFieldContainer[BackendInfo]
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    heartbeat_period: _duration_pb2.Duration
    compressions: _containers.RepeatedScalarFieldContainer[Compression]
    def __init__(self, version: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., backends: _Optional[_Iterable[_Union[BackendInfo, _Mapping]]] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ..., heartbeat_period: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., compressions: _Optional[_Iterable[_Union[Compression, str]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_domain_bytes", "max_key_bytes", "max_value_bytes", "max_json_depth", "request_id_window", "max_message_value_bytes")
    MAX_DOMAIN_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_KEY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_JSON_DEPTH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    max_domain_bytes: int
    max_key_bytes: int
    max_value_bytes: int
    max_json_depth: int
    request_id_window: _duration_pb2.Duration
    max_message_value_bytes: int
    def __init__(self, max_domain_bytes: _Optional[int] = ..., max_key_bytes: _Optional[int] = ..., max_value_bytes: _Optional[int] = ..., max_json_depth: _Optional[int] = ..., request_id_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_message_value_bytes: _Optional[int] = ...) -> None: ...

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
