"""Neither secrets nor values reach the log or an error, however much is logged and whatever goes wrong."""

from pathlib import Path

import grpc
import pytest
from google.protobuf import duration_pb2

from neardict.v1 import storage_pb2 as pb
from redis_server import RedisServer
from served import Served
from starting import start_and_fail
from wire import Refusal, ask, text_field

PASSWORD = "planted-password"
VALUE = "planted-value"

CONFIG = """
default = "disk"
[backends.disk]
implementation = "sqlite"
[backends.files]
implementation = "json"
[backends.shared]
implementation = "redis"
settings = {{ url = "redis://:{password}@127.0.0.1:{port}/0" }}
[[routes]]
domain = "disk"
backend = "disk"
[[routes]]
domain = "files"
backend = "files"
[[routes]]
domain = "shared"
backend = "shared"
"""


def what_goes_wrong(channel: grpc.Channel, domain: str) -> list[bytes | Refusal]:
    """Writes and reads values, well and in every wrong way, and returns the answers to the wrong ones."""
    good = pb.SetValueRequest(domain=domain, key="key", value=pb.Value(json=f'"{VALUE}"'), request_id="id")
    assert isinstance(ask(channel, "SetValue", good), bytes)
    assert isinstance(ask(channel, "GetValue", pb.GetValueRequest(domain=domain, key="key")), bytes)
    return [
        ask(channel, "SetValue", pb.SetValueRequest(domain=domain, key="key", value=value, **more))
        for value, more in (
            (pb.Value(json=f'"{VALUE}'), {}),
            (pb.Value(json=f"NaN {VALUE}"), {}),
            (pb.Value(json='"' + VALUE * 100_000 + '"'), {}),
            (pb.Value(raw=VALUE.encode() * 100_000), {}),
            (pb.Value(json=f'"{VALUE}"'), {"if_revision": 1}),
            (pb.Value(json=f'"{VALUE}"'), {"if_revision": 0}),
            (pb.Value(json=f'"{VALUE}"'), {"if_absent": True}),
            (pb.Value(json=f'"{VALUE}"'), {"ttl": duration_pb2.Duration(seconds=-1)}),
        )
    ] + [
        ask(channel, "SetValue", text_field(3, text_field(1, VALUE.encode() + b"\xff"))),
        ask(channel, "DeleteKey", pb.DeleteKeyRequest(domain=domain, key="key", request_id="id")),
    ]


def test_neither_the_log_nor_an_error_holds_a_secret_or_a_value(tmp_path: Path) -> None:
    with RedisServer("--requirepass", PASSWORD) as redis:
        (tmp_path / "neardict.toml").write_text(CONFIG.format(password=PASSWORD, port=redis.port))
        arguments = ("--config", tmp_path / "neardict.toml", "--data", tmp_path, "--log-level", "DEBUG")
        with Served(*arguments) as server, grpc.insecure_channel(server.address) as channel:
            answers = []
            for domain in ("disk", "files", "shared"):
                answers += what_goes_wrong(channel, domain)
            # A file that somebody broke, and a Redis that goes away.
            (file,) = (tmp_path / "json" / "files").glob("key*")
            file.write_text(f'{{"{VALUE}": ')
            answers.append(ask(channel, "GetValue", pb.GetValueRequest(domain="files", key="key")))
            redis.kill()
            answers.append(ask(channel, "GetValue", pb.GetValueRequest(domain="shared", key="key")))
            write = pb.SetValueRequest(domain="shared", key="key", value=pb.Value(json=f'"{VALUE}"'))
            answers.append(ask(channel, "SetValue", write))
            assert server.stop() == 0
    for answer in answers:
        assert isinstance(answer, Refusal)
        assert "planted" not in str(answer)
        assert answer.reason
    assert "redis at" in server.output
    assert "planted" not in server.output


@pytest.mark.parametrize(
    "setting",
    [
        f'password = {{ a = "{PASSWORD}" }}',
        f'url = "http://:{PASSWORD}@localhost"',
        f'url = "redis://:{PASSWORD}@local host:what/0"',
        f'password = "{PASSWORD}"\nurl = "redis://:{PASSWORD}@localhost"',
        f'port = "{PASSWORD}"',
        f'ssl_ca_file = "/{PASSWORD}"',
    ],
    ids=["no text", "scheme", "no host", "two ways", "no number", "no file"],
)
def test_a_mistake_in_the_configuration_is_told_without_its_value(setting: str, tmp_path: Path) -> None:
    config = tmp_path / "neardict.toml"
    config.write_text(f'[backends.b]\nimplementation = "redis"\n[backends.b.settings]\n{setting}\n')
    said = start_and_fail("--config", config, "--log-level", "DEBUG")
    assert "backends.b.settings" in said
    assert "planted" not in said


def test_a_mistake_in_a_variable_is_told_without_its_value() -> None:
    variables = {
        "NEARDICT_BACKENDS__B__IMPLEMENTATION": "redis",
        "NEARDICT_BACKENDS__B__SETTINGS__DB": PASSWORD,
        "NEARDICT_LIMITS__MAX_VALUE_BYTES": PASSWORD,
        "NEARDICT_LISTEN": PASSWORD,
        "NEARDICT_ROUTES": PASSWORD,
    }
    said = start_and_fail(env=variables)
    assert "limits.max_value_bytes" in said
    assert "planted" not in said
    del (
        variables["NEARDICT_LIMITS__MAX_VALUE_BYTES"],
        variables["NEARDICT_LISTEN"],
        variables["NEARDICT_ROUTES"],
    )
    said = start_and_fail(env=variables)
    assert "backends.b.settings.db" in said
    assert "planted" not in said
