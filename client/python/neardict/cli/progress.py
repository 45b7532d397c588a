"""How far a long command is, on a terminal and nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(
    label: str, total: Callable[[], int | None], *, hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Shows a bar on the error output while the context lasts; yields a function that counts steps.

    `total` is called only if there is somebody to look; None means that it cannot be known.
    """
    length = total() if sys.stderr.isatty() and not hidden else None
    if length is None:
        yield lambda _: None
        return
    with click.progressbar(
        length=length,
        label=label,
        file=sys.stderr,
        show_pos=True,
        update_min_steps=max(1, length // 200),
    ) as bar:
        left = length

        def advance(steps: int) -> None:
            # The total was counted before, and may be outdated.
            nonlocal left
            steps = min(steps, left)
            left -= steps
            bar.update(steps)

        yield advance
