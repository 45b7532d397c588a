"""`neardict delete`."""

import click

from .. import _requests
from ..store import Store
from . import output
from .exit_codes import ExitCode
from .options import domain_argument, key_argument, with_store
from .output import Failure


@click.command()
@domain_argument
@key_argument
@click.option("--if-revision", type=click.IntRange(1, 2**64 - 1), metavar="N", help="Only this revision.")
@with_store
def command(store: Store, domain: str, key: str, if_revision: int | None) -> None:
    """Delete the entry of KEY in DOMAIN.

    Exits with 1 if there was none, and with 3 if the condition does not hold.
    """
    response = store.remove(_requests.delete_key(domain, key, if_revision=if_revision))
    if not output.for_people():
        output.say(
            output.json_line(
                {
                    "domain": output.json_string(domain),
                    "key": output.json_string(key),
                    "existed": "true" if response.existed else "false",
                    "revision": str(response.revision),
                }
            )
        )
    if not response.existed:
        raise Failure(f"no entry {output.shown_name(key)} in {output.shown_name(domain)}", ExitCode.ABSENT)
    if output.for_people():
        output.say(f"deleted at revision {response.revision}")
