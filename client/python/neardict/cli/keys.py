"""`neardict keys`."""

import shutil

import click

from .. import _requests
from ..errors import DataLossError
from ..store import Store
from ..v1 import storage_pb2 as pb
from . import output
from .exit_codes import ExitCode
from .options import domain_argument, listing_timeout, with_store
from .output import Failure


@click.command()
@domain_argument
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with this.")
@click.option("--values", is_flag=True, help="Print whole entries.")
@with_store
def command(store: Store, domain: str, prefix: str, values: bool) -> None:
    """List the keys of DOMAIN as they arrive, in no particular order.

    On a terminal: a key on each line, quoted if it holds what does not print. In a pipe: lines of JSON.
    """
    people = output.for_people()
    width = shutil.get_terminal_size().columns
    unreadable = 0
    request = _requests.all_keys(domain, prefix=prefix, entries=values)
    for page in store.pages(request, timeout=listing_timeout()):
        for key in page.keys:
            output.say(
                output.shown_name(key) if people else output.json_line({"key": output.json_string(key)})
            )
        for entry in page.entries:
            try:
                shown = output.shown_entry(entry, width) if people else _line(entry)
            except DataLossError as error:
                unreadable += 1
                output.complain(str(error))
            else:
                output.say(shown)
        output.flush()
        for key in page.unreadable_keys:
            unreadable += 1
            output.complain(f"the entry {output.shown_name(key)} cannot be read; `neardict get` tells why")
    if unreadable:
        raise Failure(f"{unreadable} of the entries cannot be read", ExitCode.DATA_LOSS)


def _line(entry: pb.Entry) -> str:
    return output.json_line(output.entry_members(entry))
