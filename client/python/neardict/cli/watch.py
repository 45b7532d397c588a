"""`neardict watch`."""

import shutil
import sys

import click

from ..errors import DataLossError
from ..store import Store
from ..v1 import storage_pb2 as pb
from . import output
from .following import Begun, Lost, Quiet, follow
from .options import domain_argument, with_store


@click.command()
@domain_argument
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with this.")
@click.option(
    "--from-revision",
    default=0,
    type=click.IntRange(min=0),
    metavar="REVISION",
    help="Begin with the changes after this revision rather than with those from now on.",
)
@click.option("--values", is_flag=True, help="Print what was written, too.")
@with_store
def command(store: Store, domain: str, prefix: str, from_revision: int, values: bool) -> None:
    """Print the changes of DOMAIN as they come, until Ctrl-C.

    On a terminal: a change on each line. In a pipe: lines of JSON. Goes on when the service is back after
    an interruption; if changes may be missing then, a line on the error output says so.
    """
    store.server_info()  # raises if there is no service to begin with
    interrupted = False
    for event in follow(store, domain, from_revision):
        if isinstance(event, pb.Change):
            if event.key.startswith(prefix):
                _print(store, domain, event, values)
        elif isinstance(event, Lost):
            if not interrupted:
                output.complain(f"{event.error} - waiting until it is back")
            interrupted = True
        elif isinstance(event, Begun):
            _tell(domain, event, interrupted=interrupted)
            interrupted = False
        elif isinstance(event, Quiet) and output.reader_gone():
            raise BrokenPipeError
        output.flush()


def _tell(domain: str, begun: Begun, *, interrupted: bool) -> None:
    name = output.shown_name(domain)
    if begun.gap:
        output.complain(
            f"the service does not know all earlier changes of {name} any more: some may be missing here, "
            f"and this goes on after revision {begun.revision}"
        )
    elif interrupted:
        output.complain(f"watching {name} again; no change is missing")
    elif output.for_people() and sys.stderr.isatty():
        click.secho(f"watching {name} after revision {begun.revision}", err=True, dim=True)


def _print(store: Store, domain: str, change: pb.Change, values: bool) -> None:
    written = change.kind == pb.Change.KIND_SET
    if written and values and not change.HasField("value"):
        _fetch_value(store, domain, change)
    shows_value = written and values and change.HasField("value")
    if output.for_people():
        kind = "set     " if written else "delete  "
        width = shutil.get_terminal_size().columns - len(kind)
        name = output.shown_name(change.key)
        output.say(kind + (output.shown_entry(change, width) if shows_value else name))
        return
    members = {"kind": '"set"' if written else '"delete"'}
    if shows_value:
        members |= output.entry_members(change)
    else:
        members |= {"key": output.json_string(change.key), "revision": str(change.revision)}
    output.say(output.json_line(members))


def _fetch_value(store: Store, domain: str, change: pb.Change) -> None:
    """Adds the value, which was too large to come with the change, unless another was written since."""
    try:
        entry = store.lookup(domain, change.key).entry
    except DataLossError as error:
        output.complain(str(error))
        return
    if entry.revision == change.revision:
        change.value.CopyFrom(entry.value)
