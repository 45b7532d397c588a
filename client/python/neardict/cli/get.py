"""`neardict get`."""

import json
import sys

import click

from ..store import Store
from ..v1 import storage_pb2 as pb
from . import output
from .exit_codes import ExitCode
from .json_text import compact, pretty, printable
from .options import domain_argument, key_argument, with_store
from .output import Failure


@click.command()
@domain_argument
@key_argument
@click.option("--value", "form", flag_value="value", help="Print the value alone, as JSON.")
@click.option(
    "--text", "form", flag_value="text", help="Print the text alone of a value that is a JSON string."
)
@click.option("--raw", "form", flag_value="raw", help="Write the bytes of the value and nothing else.")
@with_store
def command(store: Store, domain: str, key: str, form: str | None) -> None:
    """Print the entry of KEY in DOMAIN.

    On a terminal: the value, laid out. In a pipe: one line of JSON with key, value (or raw_base64),
    revision and expire_time. Exits with 1 if there is no entry.
    """
    response = store.lookup(domain, key)
    if not response.found:
        raise Failure(f"no entry {output.shown_name(key)} in {output.shown_name(domain)}", ExitCode.ABSENT)
    entry = response.entry
    if form == "raw":
        value = entry.value
        output.write(value.raw if value.WhichOneof("kind") == "raw" else value.json.encode())
    elif form == "text":
        _print_text(_json_of(entry))
    elif form == "value":
        output.say(_laid_out(_json_of(entry)))
    elif output.for_people():
        _print_for_people(entry)
    else:
        output.say(output.json_line({"domain": output.json_string(domain), **output.entry_members(entry)}))


def _json_of(entry: pb.Entry) -> str:
    if entry.value.WhichOneof("kind") == "raw":
        raise Failure("the value is raw bytes, not JSON: write it with --raw", ExitCode.REFUSED)
    output.check_json(entry)
    return entry.value.json


def _print_text(value: str) -> None:
    text = json.loads(value)
    if not isinstance(text, str):
        raise Failure("the value is JSON, but no string: print it with --value", ExitCode.REFUSED)
    if output.for_people():
        output.say("\n".join(map(printable, text.split("\n"))))
        return
    try:
        output.write(text.encode())
    except UnicodeEncodeError:
        raise Failure(
            "the value holds a lone surrogate, which is no Unicode text: print it with --value",
            ExitCode.REFUSED,
        ) from None


def _laid_out(value: str) -> str:
    return pretty(value) if output.for_people() else compact(value)


def _print_for_people(entry: pb.Entry) -> None:
    if entry.value.WhichOneof("kind") == "raw":
        output.say(f"{len(entry.value.raw)} raw bytes, which `neardict get --raw` writes as they are")
    else:
        output.check_json(entry)
        output.say(pretty(entry.value.json))
    output.flush()
    if not sys.stderr.isatty():
        return
    expiry = f", expires {output.expire_time(entry)}" if entry.HasField("expire_time") else ""
    click.secho(f"revision {entry.revision}{expiry}", err=True, dim=True)
