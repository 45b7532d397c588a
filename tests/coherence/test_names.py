"""A name leads those who were started so to where it is told to, again and again, and nobody else."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from coherence.names import Name, why_not

NAME = "service.test"
# Says for each line of its input where the name in it leads.
LOOK_UP = """
import socket, sys
for line in sys.stdin:
    try:
        print(socket.gethostbyname(line.strip()), flush=True)
    except socket.gaierror:
        print(flush=True)
"""


def test_a_name_leads_where_it_was_led_last(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    name = Name(NAME, tmp_path / "hosts", "192.0.2.1")
    command = [*name.under, sys.executable, "-c", LOOK_UP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for address in ("192.0.2.1", "198.51.100.123", None, "192.0.2.2"):
                name.lead_to(address)
                process.stdin.write(f"{NAME}\n")
                process.stdin.flush()
                assert process.stdout.readline() == f"{address or ''}\n"
        finally:
            process.kill()
    with pytest.raises(socket.gaierror):
        socket.gethostbyname(NAME)
