"""Storages in programs of several processes, as the SDK starts them."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from neardict.moobius import CachedDict, MoobiusStorage

Containers = Callable[..., CachedDict]


def run(program: str, folder: Path, *args: str, **env: str) -> str:
    file = folder / "program.py"
    file.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file), *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_after_a_fork_the_storage_says_so_and_another_can_be_made(
    target: str, channel: str, tmp_path: Path
) -> None:
    program = """
        import os, sys, time
        from neardict import ClosedError
        from neardict.moobius import MoobiusStorage

        entry = {"implementation": "json", "name": "json"}
        storage = MoobiusStorage("1", sys.argv[1], entry)
        storage.json["alice"] = 1
        child = os.fork()
        if not child:
            d = storage.json
            for use in (lambda: d["alice"], lambda: len(d), lambda: d.clear()):
                try:
                    use()
                except ClosedError as error:
                    assert "before the fork" in str(error)
                else:
                    os._exit(1)
            again = MoobiusStorage("1", sys.argv[1], entry)
            assert again.json == {"alice": 1}
            again.json["bob"] = 2
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        deadline = time.monotonic() + 10
        while storage.json != {"alice": 1, "bob": 2}:  # the change comes by itself
            assert time.monotonic() < deadline
        """
    run(program, tmp_path, channel)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_service_that_makes_its_storage_in_its_own_process_works(
    target: str, channel: str, tmp_path: Path, method: str
) -> None:
    # As MoobiusWand.run(background=True) does: the service is made here, started there.
    program = """
        import multiprocessing, sys
        from neardict.moobius import MoobiusStorage

        class Service:
            def __init__(self, db_config):
                self.db_config = db_config
                self.channels = {}

            def start(self):
                for channel in sys.argv[1:2]:
                    self.channels[channel] = MoobiusStorage("1", channel, self.db_config)
                    self.channels[channel].json["alice"] = 1

        if __name__ == "__main__":
            service = Service([{"implementation": "json", "name": "json", "settings": {}}])
            process = multiprocessing.get_context(sys.argv[2]).Process(target=service.start)
            process.start()
            process.join()
            assert process.exitcode == 0
            assert MoobiusStorage("1", sys.argv[1], service.db_config).json == {"alice": 1}
            print("done")
        """
    assert run(program, tmp_path, channel, method) == "done\n"


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_storage_cannot_be_copied_or_sent_and_says_what_to_do(way: Callable[[object], object]) -> None:
    storage = MoobiusStorage(1, 2, {"implementation": "null", "name": "d"})
    with pytest.raises(TypeError, match=r"make one where it is used, with MoobiusStorage\("):
        way(storage)


def test_a_copy_of_a_container_is_a_plain_dict(container: Containers, engine: str) -> None:
    d = container(engine)
    d["alice"] = {"n": 1}
    for plain in (copy.copy(d), copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert type(plain) is dict
        assert plain == {"alice": {"n": 1}}
    plain["alice"]["n"] = 2
    assert d == {"alice": {"n": 1}}
