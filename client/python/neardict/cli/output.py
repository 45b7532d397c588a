"""What commands print: for people on a terminal, lines of JSON when piped. Errors are one line each.

Nothing that came from the service reaches a terminal as it is: names and texts could command it.
"""

import base64
import json
import select
import sys

import click

from .. import _requests
from ..errors import DataLossError, ServiceError
from ..v1 import storage_pb2 as pb
from .exit_codes import ExitCode
from .json_text import compact, is_json, printable, readable


class Failure(click.ClickException):
    """Ends a command with a message for its user and an exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


def for_people() -> bool:
    """Returns whether the output goes to a terminal."""
    return sys.stdout.isatty()


def write(data: bytes) -> None:
    """Writes bytes to the output, exactly."""
    sys.stdout.buffer.write(data)


def say(text: str) -> None:
    """Writes a line to the output, in UTF-8 whatever the locale says."""
    write(f"{text}\n".encode(errors="backslashreplace"))


def flush() -> None:
    """Lets the reader of a pipe see what has been written. Raises BrokenPipeError if he went away."""
    sys.stdout.flush()


def reader_gone() -> bool:
    """Returns whether nobody reads the output any more, which otherwise the next write would tell."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def complain(message: str, *mistakes: str) -> None:
    """Writes a line about something that went wrong, and one for each mistake, if it lists some."""
    lines = [f"neardict: {_one_line(message)}", *(f"  {_one_line(mistake)}" for mistake in mistakes)]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def json_line(members: dict[str, str]) -> str:
    """Returns one line of JSON; `members` maps names to JSON text."""
    return "{" + ",".join(f"{json_string(name)}:{member}" for name, member in members.items()) + "}"


def json_string(text: str) -> str:
    """Returns the JSON string of a text."""
    return json.dumps(text, ensure_ascii=False)


def check_json(entry: pb.Entry | pb.Change) -> None:
    """Raises DataLossError if a value that the service gives out for JSON is none."""
    if not is_json(entry.value.json):
        raise DataLossError(
            f"the value of {shown_name(entry.key)} is not JSON: `neardict get --raw` writes it as it is"
        )


def entry_members(entry: pb.Entry | pb.Change) -> dict[str, str]:
    """Returns what is printed of an entry, for `json_line`; its value is as the service sent it.

    Raises DataLossError if that is not JSON, though it should be.
    """
    kind = entry.value.WhichOneof("kind")
    if kind is None:
        raise ServiceError(
            "the service sent a value of a kind that this version does not know: upgrade neardict"
        )
    members = {"key": json_string(entry.key)}
    if kind == "json":
        check_json(entry)
        members["value"] = compact(entry.value.json)
    else:
        members["raw_base64"] = json_string(base64.b64encode(entry.value.raw).decode())
    members["revision"] = str(entry.revision)
    members["expire_time"] = json_string(expire_time(entry)) if entry.HasField("expire_time") else "null"
    return members


def expire_time(entry: pb.Entry | pb.Change) -> str:
    """Returns the time of expiry as RFC 3339 has it. Raises ServiceError if it is no time."""
    _requests.expire_time(entry)
    return entry.expire_time.ToJsonString()


def shown_name(name: str) -> str:
    """Returns a key or domain for people: as it is, or quoted if that would mislead."""
    if name.isprintable() and name == name.strip() and name and not name.startswith('"'):
        return name
    return printable(json_string(name))


def shown_entry(entry: pb.Entry | pb.Change, width: int) -> str:
    """Returns an entry on a line for people, cut to the width."""
    if entry.value.WhichOneof("kind") == "raw":
        value = f"({len(entry.value.raw)} raw bytes)"
    else:
        text = entry.value.json
        # Far more than fits is not worth laying out.
        value = readable(text) if len(text) < 64 * width else printable(text[:width])
    line = f"{shown_name(entry.key)}  {value}"
    return line if len(line) <= width else f"{line[: width - 1]}…"
