"""`python -m neardict.cli` is `neardict`."""

from ._entry import main

main()
