"""`neardict export`: the entries of a domain as lines of JSON, which `neardict import` reads.

{"neardict_export": 1, "domain": "..."}
{"key": "...", "value": ..., "revision": N, "expire_time": null}     raw_base64 instead of value for bytes
...
{"end": true, "entries": N, "unreadable": N}                         without it, the file is not whole
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import click

from .. import _requests
from ..errors import DataLossError
from ..store import Store
from . import output
from .complaints import Complaints
from .exit_codes import ExitCode
from .options import domain_argument, listing_timeout, with_store
from .output import Failure
from .progress import progress
from .whole_file import whole_file

FORMAT_VERSION = 1


@click.command(short_help="Write the entries of DOMAIN as lines of JSON.")
@domain_argument
@click.option(
    "--output",
    "path",
    type=click.Path(path_type=Path),
    help="Write a file, all of it or nothing; - is the output.",
)
@with_store
def command(store: Store, domain: str, path: Path | None) -> None:
    """Write the entries of DOMAIN as lines of JSON, for `neardict import`.

    Each entry is as it was at some moment during the export. Exits with 6 if entries are damaged; all
    others are exported.
    """
    damaged = Complaints()
    if path is None or path == Path("-"):
        # A bar in the midst of the lines would be of no use.
        _export(store, domain, output.write, damaged, bar=not output.for_people())
        output.flush()
    else:
        with whole_file(path) as write:
            entries = _export(store, domain, write, damaged, bar=True)
        if output.for_people():
            output.say(f"exported {entries} entries of {output.shown_name(domain)}")
        else:
            output.say(
                output.json_line(
                    {
                        "domain": output.json_string(domain),
                        "entries": str(entries),
                        "unreadable": str(damaged.count),
                    }
                )
            )
    if damaged.count:
        damaged.show("; `neardict keys --values` names them all")
        raise Failure(f"{damaged.count} entries are damaged and were not exported", ExitCode.DATA_LOSS)


def _export(
    store: Store, domain: str, write: Callable[[bytes], object], damaged: Complaints, *, bar: bool
) -> int:
    def put(members: dict[str, str]) -> None:
        write(f"{output.json_line(members)}\n".encode())

    def count() -> int:
        if first.total_keys:
            return first.total_keys
        keys = store.pages(_requests.all_keys(domain), timeout=listing_timeout())
        return sum(len(page.keys) for page in keys)

    entries = 0
    pages = store.pages(_requests.all_keys(domain, entries=True), timeout=listing_timeout())
    first = next(pages)
    # Not before the service has answered.
    put({"neardict_export": str(FORMAT_VERSION), "domain": output.json_string(domain)})
    with progress("exporting", count, hidden=not bar) as advance:
        for page in itertools.chain((first,), pages):
            for entry in page.entries:
                try:
                    put(output.entry_members(entry))
                except DataLossError as error:
                    damaged.add(str(error))
                else:
                    entries += 1
            for key in page.unreadable_keys:
                damaged.add(f"the entry {output.shown_name(key)} is damaged; `neardict get` tells how")
            advance(len(page.entries) + len(page.unreadable_keys))
    put({"end": "true", "entries": str(entries), "unreadable": str(damaged.count)})
    return entries
