"""Processes that increment one counter, with `edit`: python increments.py TARGET DOMAIN PROCESSES TIMES."""

import subprocess
import sys
import time

import neardict


def increment(target: str, domain: str, times: int) -> None:
    """What one process does."""
    with neardict.connect(target) as store:
        counters = store.dict(domain)
        sys.stdin.readline()  # until all are ready
        for _ in range(times):
            counters.edit("n", lambda n: n + 1, default=0)


def run(target: str, domain: str, processes: int, times: int) -> float:
    """Runs them at once; returns how many seconds that took. Raises CalledProcessError if one fails."""
    command = [sys.executable, __file__, target, domain, str(times)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(processes)]
    try:
        begun = time.perf_counter()
        for worker in workers:
            worker.communicate(b"go\n", timeout=600)
            if worker.returncode:
                raise subprocess.CalledProcessError(worker.returncode, command)
        return time.perf_counter() - begun
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    target, domain, *counts = sys.argv[1:]
    if len(counts) == 1:
        increment(target, domain, int(counts[0]))
    else:
        seconds = run(target, domain, int(counts[0]), int(counts[1]))
        with neardict.connect(target) as store:
            print(f"{store.get_value(domain, 'n')} in {seconds:.1f} s")
