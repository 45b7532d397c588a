"""What became of everything that an import found."""

import enum
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from .. import output
from ..complaints import Complaints
from ..exit_codes import ExitCode


class Outcome(enum.StrEnum):
    IMPORTED = "imported"
    PRESENT = "present"  # the same value was there
    KEPT = "kept"  # another value was there
    REFUSED = "refused"
    IGNORED = "ignored"


class Report:
    """Counts, and writes a line of JSON for whatever is not a plain import to the file at `path`, if any."""

    def __init__(self, path: Path | None) -> None:
        self.counts: Counter[Outcome] = Counter()
        self.converted = 0
        self._complaints = Complaints()
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Raises OSError."""
        if self._path is not None:
            # By the line, so that an interrupted import leaves what it has found.
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(
        self,
        outcome: Outcome,
        origin: str,
        *,
        reason: str = "",
        conversion: str = "",
        domain: str = "",
        key: str = "",
    ) -> None:
        """Notes what became of one piece."""
        self.counts[outcome] += 1
        self.converted += bool(conversion) and outcome in (Outcome.IMPORTED, Outcome.PRESENT)
        if outcome in (Outcome.REFUSED, Outcome.KEPT):
            self._complaints.add(f"{outcome}: {output.shown_name(origin)} {reason}")
        if self._file is not None and (reason or conversion):
            facts = {
                "outcome": outcome,
                "origin": origin,
                "domain": domain,
                "key": key,
                "reason": reason,
                "conversion": conversion,
            }
            members = {name: output.json_string(fact) for name, fact in facts.items() if fact}
            self._file.write(f"{output.json_line(members)}\n")

    def exit_code(self) -> ExitCode:
        if self.counts[Outcome.REFUSED]:
            return ExitCode.REFUSED
        return ExitCode.CONFLICT if self.counts[Outcome.KEPT] else ExitCode.OK

    def show(self, *, dry_run: bool) -> None:
        """Prints the sums on the output, and the first things that went wrong on the error output."""
        output.flush()
        self._complaints.show("" if self._path is not None else "; --report FILE lists them all")
        numbers = {outcome.value: self.counts[outcome] for outcome in Outcome} | {"converted": self.converted}
        if output.for_people():
            told = ", ".join(f"{number} {name}" for name, number in numbers.items() if number)
            output.say(f"{'dry run, nothing written: ' if dry_run else ''}{told or 'nothing to import'}")
        else:
            members = {name: str(number) for name, number in numbers.items()}
            output.say(output.json_line({**members, "dry_run": "true" if dry_run else "false"}))
