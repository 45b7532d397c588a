"""Puts the figures into the marked part of docs/consistency.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

PAGE = Path("docs/consistency.md")
BEGIN = "<!-- figures: begin; `make soak` writes them -->"
END = "<!-- figures: end -->"


def surroundings(command: str, seed: int) -> str:
    """Returns a paragraph on what the figures were taken on."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("grpcio", "redis"))
    return (
        f"`{command}`, seed {seed}, on one machine: {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}, {versions}."
    )


def has_marks(path: Path) -> bool:
    """Returns whether `write` can put figures into the page."""
    return END in path.read_text(encoding="utf-8").partition(BEGIN)[2]


def write(path: Path, text: str) -> None:
    """Replaces what is between the marks of the page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
