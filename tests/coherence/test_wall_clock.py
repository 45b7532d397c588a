"""A process may have a wall clock of its own, by which all of the client goes, though not gRPC."""

import re
import subprocess
import sys
from pathlib import Path

import neardict
from coherence.running import environment

# What else tells the time of day, and would be right when the clock is not.
OTHER_READERS = re.compile(r"\b(datetime|date)\.(now|utcnow|today)\b|CLOCK_REALTIME|\bfrom time import\b")
READ = """
import time
before = time.time(), time.time_ns(), time.monotonic()
from coherence.wall_clock import WallClock
clock = WallClock()
clock.install()
clock.ahead = -3600.0
grpc = {"__name__": "grpc._channel", "time": time}
exec("seen = time.time(), time.time_ns()", grpc)
hours = [(time.time() - before[0]) / 3600, (time.time_ns() - before[1]) / 3600e9]
hours += [(grpc["seen"][0] - before[0]) / 3600, (grpc["seen"][1] - before[1]) / 3600e9]
clock.ahead = 0.0
hours += [(time.time() - before[0]) / 3600, (time.monotonic() - before[2]) / 3600]
print([round(number) for number in hours])
"""


def test_a_process_sees_a_step_and_grpc_does_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[-1, -1, 0, 0, 0, 0]"]


def test_the_client_reads_the_wall_clock_in_no_other_way() -> None:
    package = Path(neardict.__file__).parent
    sources = {path: path.read_text() for path in package.rglob("*.py")}
    assert len(sources) > 50
    found = {path.name: match[0] for path, text in sources.items() if (match := OTHER_READERS.search(text))}
    assert not found
