"""`make attack` runs, its table is complete, no call of the probe fails. How long they took is no matter."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench.attacks.calls import ATTACKS

ROOT = Path(__file__).parent.parent.parent

pytestmark = [pytest.mark.xdist_group("bench"), pytest.mark.timeout(240)]


def test_each_attack_is_tried_and_no_call_of_the_probe_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.attacks", "--seconds", "0.5"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    number = r"\d+\.\d"
    three = f"{number}, {number}, {number}"
    rows = re.findall(
        rf"^\| (.+) \| {three} ms \| {three} ms \| 0 \| \d+, \d+, \d+ MB \|$", done.stdout, re.M
    )
    assert rows == [(attack.__doc__ or "").strip() for attack in ATTACKS]
