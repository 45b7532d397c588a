"""`neardict import`."""

import contextlib
import sys
from pathlib import Path

import click

from .._replies import MOST_VALUE_BYTES
from ..errors import NeardictError
from ..store import Store
from . import output
from .exit_codes import ExitCode
from .importing.export_file import ExportFile, NoExportError
from .importing.folder import Folder
from .importing.loader import Loader
from .importing.report import Report
from .options import with_store
from .output import Failure
from .progress import progress


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, allow_dash=True))
@click.option(
    "--domain",
    default="",
    help="The domain of SOURCE itself. Sub-folders add their parts to it; it replaces the one in an export.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace other values that are there, instead of keeping them."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a line of JSON for everything that was converted, kept, refused or ignored.",
)
@with_store
def command(
    store: Store, source: Path, domain: str, overwrite: bool, dry_run: bool, report_path: Path | None
) -> None:
    """Bring the data in SOURCE into the service.

    SOURCE is the root_dir of a json database of a Moobius service, where service_1/channel_2/NAME/KEY.json
    is KEY in the domain service_1.channel_2.NAME; files of any version of the SDK are taken. Or it is a
    file that `neardict export` wrote, or - to read one from the input.

    May be interrupted and started again: what is there is not written again, and not replaced if it
    differs. Exits with 4 if something was refused, else with 3 if other values were there and were kept;
    all the rest is imported in both cases.
    """
    limits = store.server_info().limits
    most = limits.max_value_bytes or MOST_VALUE_BYTES
    with contextlib.ExitStack() as stack:
        folder_or_file: Folder | ExportFile
        if source.is_dir():
            folder_or_file = Folder(source, prefix=domain, max_value_bytes=most)
        else:
            piped = source == Path("-")
            folder_or_file = ExportFile(
                sys.stdin.buffer if piped else stack.enter_context(source.open("rb")),
                path=source if source.is_file() else None,
                domain=domain,
                max_value_bytes=most,
            )
        report = stack.enter_context(Report(report_path))
        try:
            with progress("importing", folder_or_file.count) as advance:
                loader = Loader(store, report, limits, overwrite=overwrite, dry_run=dry_run, advance=advance)
                loader.load(folder_or_file.pieces())
        except NoExportError as error:
            raise Failure(
                f"{output.shown_name(str(source))} cannot be imported: {error}", ExitCode.REFUSED
            ) from None
        except (NeardictError, KeyboardInterrupt):
            report.show(dry_run=dry_run)
            output.complain("the import stopped here: start it again to go on")
            raise
        report.show(dry_run=dry_run)
    click.get_current_context().exit(report.exit_code())
