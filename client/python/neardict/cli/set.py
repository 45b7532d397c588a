"""`neardict set`."""

import json
import os
import re
import sys
from pathlib import Path

import click

from .. import _requests
from ..store import Store
from ..v1 import storage_pb2 as pb
from . import json_text, output
from .exit_codes import ExitCode
from .options import DURATION, domain_argument, key_argument, with_store
from .output import Failure

_NUMBER = re.compile(r"-\.?[0-9]")


# Unknown options are let through, so that -5 can be a value without a `--` before it.
@click.command(
    short_help="Store VALUE under KEY in DOMAIN.", context_settings={"ignore_unknown_options": True}
)
@domain_argument
@key_argument
@click.argument("value", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="Read the value from a file; - is the input.")
@click.option("--text", "form", flag_value="text", help="VALUE is text, to be stored as a JSON string.")
@click.option("--raw", "form", flag_value="raw", help="VALUE is bytes, to be stored as they are.")
@click.option(
    "--ttl", type=DURATION, metavar="DURATION", help="Let the entry expire: 30 (seconds), 5m, 1h, 7d."
)
@click.option(
    "--keep-ttl", is_flag=True, help="Let it expire when the present entry would; there must be one."
)
@click.option(
    "--if-revision", type=click.IntRange(1, 2**64 - 1), metavar="N", help="Only over this revision."
)
@click.option("--if-absent", is_flag=True, help="Only if there is no entry.")
@with_store
def command(
    store: Store,
    domain: str,
    key: str,
    value: str | None,
    file: Path | None,
    form: str | None,
    ttl: float | None,
    keep_ttl: bool,
    if_revision: int | None,
    if_absent: bool,
) -> None:
    """Store VALUE under KEY in DOMAIN and print the revision of the write.

    VALUE is JSON, for example 7, null, '"text"' or '{"points": 3}', and is read from the input if it is -.
    Exits with 3 if a condition does not hold.
    """
    if (value is None) == (file is None):
        raise click.UsageError("give either VALUE or --file.")
    if if_absent and if_revision is not None:
        raise click.UsageError("give --if-revision or --if-absent, not both.")
    if keep_ttl and (ttl is not None or if_absent):
        raise click.UsageError("give --keep-ttl, --ttl or --if-absent: each says something else of the ttl.")
    if value is not None and len(value) > 1 and value.startswith("-") and not _NUMBER.match(value):
        raise click.UsageError(
            "VALUE begins with - and is no number: check the options, or give it with --file or as the input."
        )
    message = _message(_data(value, file), form)
    request = _requests.set_value(
        domain, key, message, ttl=ttl, keep_ttl=keep_ttl, if_revision=if_revision, if_absent=if_absent
    )
    revision = store.write(request).revision
    if output.for_people():
        output.say(f"revision {revision}")
    else:
        output.say(
            output.json_line(
                {
                    "domain": output.json_string(domain),
                    "key": output.json_string(key),
                    "revision": str(revision),
                }
            )
        )


def _data(value: str | None, file: Path | None) -> bytes:
    if value == "-" or file == Path("-"):
        return sys.stdin.buffer.read()
    return os.fsencode(value) if value is not None else file.read_bytes() if file is not None else b""


def _message(data: bytes, form: str | None) -> pb.Value:
    if form == "raw":
        return pb.Value(raw=data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Failure("the value is not UTF-8: store it with --raw", ExitCode.REFUSED) from None
    if form == "text":
        return pb.Value(json=json.dumps(text, ensure_ascii=False))
    try:
        json_text.parse(text)
    except json_text.NotJsonError as error:
        raise Failure(
            f"the value {error}: a text needs quotes within those of the shell, '\"text\"', or --text",
            ExitCode.REFUSED,
        ) from None
    return pb.Value(json=text.strip())
