"""Values that are dataclasses, or lists of them: stored without more ado, read where registered."""

import importlib
import json
import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

import neardict
from neardict import UnsupportedValueError
from neardict.moobius import CachedDict, RemoteDatabase
from registrations import forget, forgotten

Containers = Callable[..., CachedDict]
Domains = Callable[[str], str]


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """Every test begins as a program that has just started."""
    with forgotten():
        yield


@dataclass
class Item:
    name: str
    weight: float = 1.0


@dataclass
class Player:
    name: str
    hp: int
    items: list[Item] = field(default_factory=list)


def marked(player: Player) -> dict[str, Any]:
    fields = {"name": player.name, "hp": player.hp, "items": [vars(item) for item in player.items]}
    return {"_moobius_type": f"{Player.__module__}.Player", "_moobius_val": fields}


ALICE = Player("alice", 7, [Item("sword", 3.5)])
BOB = Player("bob", 8)


def test_a_program_that_registered_nothing_stores_its_dataclasses(
    container: Containers, engine: str, elsewhere: neardict.Store
) -> None:
    d = container(engine)
    d["alice"] = ALICE
    d["both"] = [ALICE, BOB]
    d.update(team={"first": ALICE, "others": [[BOB]]})
    assert d.setdefault("item", Item("bow")) == Item("bow")
    again = container(engine)
    assert again == d
    assert type(again["alice"]) is Player
    assert again["alice"].items[0].weight == 3.5
    assert again["both"] == [ALICE, BOB]
    assert again["alice"] is not d["alice"]


def test_a_dataclass_that_is_edited_in_place_is_saved(container: Containers, engine: str) -> None:
    d = container(engine)
    d["alice"] = Player("alice", 7)
    d["alice"].hp -= 1
    d["alice"].items.append(Item("sword"))
    d.save("alice")
    assert container(engine)["alice"] == Player("alice", 6, [Item("sword")])


def test_the_database_itself_stores_them_too(target: str, domain: Domains) -> None:
    database = RemoteDatabase(domain("memory"))
    assert database.set_value("both", [ALICE, BOB]) == (True, "both")
    assert database.get_value("both") == (True, [ALICE, BOB])


def test_storing_registers_the_class_and_says_that_a_restart_will_not(
    container: Containers, caplog: pytest.LogCaptureFixture
) -> None:
    d = container("memory")
    d["alice"] = ALICE
    d["bob"] = BOB
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"registered the class '{__name__}.Player'" in record.getMessage()
    assert "put @neardict.register before it" in record.getMessage()


def test_a_restarted_program_that_registers_reads_instances(container: Containers, engine: str) -> None:
    container(engine)["both"] = [ALICE, BOB]
    forget()
    neardict.register(Player)
    assert container(engine)["both"] == [ALICE, BOB]


def test_a_restarted_program_that_does_not_reads_plain_data_and_is_told(
    container: Containers, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    container(engine)["both"] = [ALICE, BOB]
    forget()
    caplog.clear()
    assert container(engine)["both"] == [marked(ALICE), marked(BOB)]
    assert container(engine)["both"] == [marked(ALICE), marked(BOB)]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"'{__name__}.Player', which is not registered" in record.getMessage()
    assert "@neardict.register" in record.getMessage()


def test_data_of_an_unknown_class_is_written_back_unchanged(
    container: Containers, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    data = {"_moobius_type": "somebody.elses.Class", "_moobius_val": {"x": [1, None]}}
    d = container(engine)
    d["alice"] = data
    again = container(engine)
    again["bob"] = [again["alice"]]
    again.save("alice")
    assert elsewhere.get_value(domain(engine), "alice") == data
    assert elsewhere.get_value(domain(engine), "bob") == [data]


def test_stored_data_never_names_a_class_to_import_or_to_call(
    container: Containers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "imported"
    (tmp_path / "trapped_module.py").write_text(f"open({str(trap)!r}, 'w').close()\nclass Trap: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    d = container("json")
    for name in ("trapped_module.Trap", "os.system", "builtins.eval", f"{__name__}.Player"):
        data = {"_moobius_type": name, "_moobius_val": f"touch {trap}"}
        d["x"] = data
        d.refresh("x")
        assert container("json")["x"] == data
    assert not trap.exists()
    assert "trapped_module" not in sys.modules


def test_the_marker_for_none_reads_as_none(container: Containers, root: Path, domain: Domains) -> None:
    d = container("json")
    d["alice"] = 1
    file = root.joinpath(*domain("json").split("."), "alice.json")
    file.write_text(json.dumps({"a": {"_moobius_type": "NoneType", "_moobius_val": {}}}))
    assert container("json")["alice"] == {"a": None}


def test_the_file_of_a_dataclass_is_what_the_sdk_writes(
    container: Containers, root: Path, domain: Domains, tmp_path: Path
) -> None:
    sdk: Any = importlib.import_module("moobius.database.json_database")
    sdk.JSONDatabase("domain", root_dir=str(tmp_path)).set_value("both", [ALICE, BOB])
    container("json")["both"] = [ALICE, BOB]
    ours = root.joinpath(*domain("json").split("."), "both.json").read_text()
    assert ours.rstrip("\n") == (tmp_path / "domain" / "both.json").read_text()


def test_what_would_come_back_different_is_refused(container: Containers) -> None:
    @dataclass
    class Point:
        at: Any

    d = container("memory")
    with pytest.raises(UnsupportedValueError, match="Point"):
        d["point"] = Point((1, 2))
    assert "point" not in d


def test_two_classes_of_one_name_are_told_apart(container: Containers) -> None:
    def make() -> type:
        @dataclass
        class Local:
            x: int = 0

        return Local

    d = container("memory")
    d["one"] = make()()
    with pytest.raises(
        UnsupportedValueError, match=r"cannot store this .*Local: another class is registered"
    ):
        d["two"] = make()()


def test_a_class_itself_and_values_that_contain_themselves_are_refused(container: Containers) -> None:
    d = container("memory")
    cycle: list[Any] = [(1,)]
    cycle.append(cycle)
    for value in (Player, cycle, [ALICE, {1}]):
        with pytest.raises(UnsupportedValueError):
            d["x"] = value


def test_the_types_of_the_sdk_itself_can_be_stored(container: Containers) -> None:
    types: Any = importlib.import_module("moobius.types")
    button = types.Button(button_id="1", button_text="Go", dialog=False)
    character = types.Character(
        character_id="7", name="Alice", avatar=None, description="x", character_context=None
    )
    content = types.MessageContent(text="hello", path=None)
    d = container("json")
    d["all"] = [button, character, content]
    assert container("json")["all"] == [button, character, content]


def test_a_class_of_the_main_program_keeps_its_name(target: str, channel: str, tmp_path: Path) -> None:
    program = tmp_path / "service.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            from dataclasses import dataclass
            import neardict
            from neardict.moobius import MoobiusStorage

            @neardict.register(name="player")
            @dataclass
            class Player:
                hp: int

            d = MoobiusStorage("1", sys.argv[1], {"implementation": "json", "name": "json"}).json
            if "alice" not in d:
                d["alice"] = Player(7)
            d["alice"].hp += 1
            d.save("alice")
            print(d["alice"])
            """
        )
    )
    for hp in (8, 9):
        done = run(
            [sys.executable, "-W", "error", str(program), channel],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"Player(hp={hp})\n"
        assert done.stderr == ""
