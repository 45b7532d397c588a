"""The SDK's own dataclasses, as its public demos store them: a service starts, is used, and starts again."""

import importlib
import json
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

import neardict
from neardict import UndecodableValueError, UnsupportedValueError, _requests
from neardict.moobius import CachedDict
from neardict.v1 import storage_pb2 as pb
from registrations import forget, forgotten
from served import Served

Containers = Callable[..., CachedDict]
Domains = Callable[[str], str]

types: Any = importlib.import_module("moobius.types")
json_utils: Any = importlib.import_module("moobius.json_utils")

SECONDS = 60

# What a demo has in a file: buttons as JSON, with their dialogs.
BUTTONS: list[dict[str, Any]] = [
    {
        "button_id": "paint",
        "button_text": "Paint!",
        "dialog": {
            "title": "Which colour?",
            "components": [
                {
                    "label": "Colour",
                    "type": "dropdown",
                    "required": True,
                    "choices": ["red"],
                    "placeholder": "?",
                }
            ],
        },
    },
    {"button_id": "help", "button_text": "Help"},
]


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """Every test begins as a program that has just started."""
    with forgotten():
        yield


def buttons() -> list[Any]:
    return [types.Button(**button) for button in BUTTONS]


def whole_button() -> Any:
    components = [types.InputComponent("Colour", "dropdown", True, "?", ["red"])]
    dialog = types.Dialog("Which colour?", components, [types.BottomButton("b", "Go", True)])
    return types.Button("paint", "Paint!", dialog)


def character() -> Any:
    return types.Character("7", "Alice", None, "a painter", {"name": "Alice", "more": {"a": [1, 2.5, None]}})


# Programs say in JSON what they found, with the class of each.
SERVICE = """
import asyncio, copy, json, sys
from moobius.types import Button, Character, MenuItem
import moobius.types as types
from neardict.moobius import MoobiusStorage

BUTTONS = json.loads(sys.argv[2])
NAMES = ["buttons", "characters", "puppets", "states", "stats"]

def shown(value):
    if isinstance(value, list):
        return [shown(inner) for inner in value]
    if isinstance(value, dict):
        return {name: shown(inner) for name, inner in value.items()}
    if isinstance(value, (str, int, float, type(None))):
        return value
    return {"class": type(value).__name__} | {name: shown(inner) for name, inner in vars(value).items()}

async def main():
    default_buttons = [Button(**button) for button in BUTTONS]
    channel = MoobiusStorage("1", "7", sys.argv[1])
    found = {name: {key: shown(value) for key, value in getattr(channel, name).items()} for name in NAMES}
    for member in ("alice", "bob"):
        context = {"name": member, "is": {"a": [1]}}
        channel.characters[member] = Character(member, member.title(), None, "x", context)
        if member not in channel.buttons:
            channel.buttons[member] = copy.deepcopy(default_buttons)
        if member not in channel.states:
            channel.states[member] = {"mode": "light", "pictures": 0}
        channel.states[member]["pictures"] += 1
        channel.states.save(member)
    for number in range(3):
        if f"puppet_{number}" not in channel.puppets:
            channel.puppets[f"puppet_{number}"] = Character(f"id-{number}", "Puppet")
    assert channel.puppets["puppet_0"].character_id == "id-0"
    channel.buttons["bob"] = []
    channel.buttons["bob"] = [*channel.buttons["alice"]]
    stats = channel.stats.get("alice", {"str": 1})
    stats["str"] += 1
    channel.stats["alice"] = stats
    assert channel.characters.pop("nobody", None) is None
    assert channel.characters.pop("bob").name == "Bob"
    assert [button.button_id for button in channel.buttons["alice"]] == ["paint", "help"]
    print(json.dumps(found))

asyncio.run(main())
"""


def test_a_service_of_the_sdk_starts_is_used_and_starts_again(tmp_path: Path) -> None:
    program = tmp_path / "service.py"
    program.write_text(SERVICE)
    db_config = tmp_path / "db.json"
    names = ("buttons", "characters", "puppets", "states", "stats")
    entry = {"implementation": "json", "load": True, "settings": {"root_dir": "json_db"}}
    db_config.write_text(
        json.dumps([entry | {"name": name, "clear": name == "characters"} for name in names])
    )

    def start() -> Any:
        command = [sys.executable, str(program), str(db_config), json.dumps(BUTTONS)]
        with Served("--config", db_config, "--data", tmp_path / "data", cwd=tmp_path) as served:
            env = os.environ | {"NEARDICT_TARGET": served.address}
            done = run(command, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "", "neither warnings nor errors"
        return json.loads(done.stdout)

    nothing: dict[str, Any] = {}
    first = start()
    assert first == dict.fromkeys(names, nothing)
    component = {"class": "InputComponent", **BUTTONS[0]["dialog"]["components"][0]}
    dialog = {"class": "Dialog", "title": "Which colour?", "components": [component], "bottom_buttons": None}
    both = [
        {"class": "Button", "button_id": "paint", "button_text": "Paint!", "dialog": dialog},
        {"class": "Button", "button_id": "help", "button_text": "Help", "dialog": None},
    ]
    for started in (1, 2):
        found = start()
        assert found["buttons"] == {"alice": both, "bob": both}
        assert found["characters"] == {}, "it is cleared at each start"
        assert found["puppets"]["puppet_2"] == {
            "class": "Character",
            "character_id": "id-2",
            "name": "Puppet",
            "avatar": None,
            "description": None,
            "character_context": None,
        }
        state = {"mode": "light", "pictures": started}
        assert found["states"] == {"alice": state, "bob": state}
        assert found["stats"] == {"alice": {"str": started + 1}}


@pytest.mark.parametrize("load", [True, False], ids=["loaded", "not loaded"])
def test_the_types_of_the_sdk_come_back_as_such_without_being_registered(
    container: Containers, engine: str, load: bool, caplog: pytest.LogCaptureFixture
) -> None:
    menu = types.MenuItem("m", "Menu", ["text", "file"], types.Dialog("d", []))
    stored = {
        "character": character(),
        "buttons": [whole_button(), *buttons()],
        "menu": {"first": menu, "more": [types.CanvasItem("x"), types.StyleItem("canvas", "visible", True)]},
        "click": types.MenuItemClick("m", "text", types.MessageContent("hi"), "c", "s"),
    }
    container(engine).update(stored)
    assert not caplog.records, "nothing has to be done about classes of the SDK"
    forget()
    again = container(engine, load=load)
    assert again["character"] == stored["character"]
    assert again["menu"] == stored["menu"]
    assert again["click"] == stored["click"]
    assert again.get_many(["buttons"])["buttons"][0] == whole_button()
    painted = again["buttons"][1]
    assert type(painted) is types.Button
    assert type(painted.dialog) is types.Dialog
    assert painted.dialog.components == whole_button().dialog.components
    again["buttons"].pop()
    again.save("buttons")
    assert container(engine)["buttons"] == again["buttons"]
    assert not caplog.records


def test_a_button_whose_dialog_is_a_dict_is_stored_as_the_sdk_stores_it(
    container: Containers, root: Path, domain: Domains
) -> None:
    d = container("json")
    file = root.joinpath(*domain("json").split("."), "x.json")
    incomplete = types.Dialog("d", [{"label": "a", "type": "text"}, types.InputComponent("b", "text")])
    for value in (
        buttons(),
        {"by id": {button.button_id: button for button in buttons()}},
        types.Button("b", "B", incomplete),
        types.Button("b", "B", {}),
        types.Button("b", "B", {"title": "d", "of_another_version": {"x": [1]}}),
        types.Button("b", "B", {"of_another_version": 1, "components": [{"no": "component"}]}),
        types.Button("b", "B", False),
        types.MenuItem("m", "M", "text", BUTTONS[0]["dialog"]),
        character(),
    ):
        d["x"] = value
        assert d["x"] is value, "in this process it stays what it is"
        assert json.loads(file.read_text()) == json.loads(json_utils.enhanced_json_save(None, value))
        d["y"] = container("json")["x"]
        container("json").save("y")


def test_what_the_json_form_of_a_button_would_lose_is_refused(container: Containers) -> None:
    d = container("memory")
    for value in (
        types.Button("b", "B", {"title": ("a", "b")}),
        types.Button("b", "B", {"components": {1: 2}}),
        types.Button("b", "B", types.Dialog("d", ({"label": "a", "type": "text"},))),
        types.Character("7", "A", None, "x", {"button": whole_button()}),
    ):
        with pytest.raises(UnsupportedValueError):
            d["x"] = value
    assert "x" not in d


def test_what_the_sdk_has_stored_is_read_and_the_sdk_reads_what_is_stored_here(
    container: Containers, root: Path, domain: Domains
) -> None:
    d = container("json")
    d["ours"] = [*buttons(), whole_button(), character()]
    folder = root.joinpath(*domain("json").split("."))
    json_utils.enhanced_json_save(str(folder / "theirs.json"), [*buttons(), whole_button(), character()])
    ours = json_utils.enhanced_json_load(str(folder / "ours.json"))
    theirs = container("json")["theirs"]
    assert ours == theirs
    assert [type(value).__name__ for value in theirs] == ["Button", "Button", "Button", "Character"]


def test_a_dataclass_of_the_sdk_of_another_version_loses_nothing(
    container: Containers, elsewhere: neardict.Store, domain: Domains, engine: str
) -> None:
    fields = {"character_id": "7", "name": "A", "user_context": {"a": [1]}, "avatar": "x"}
    newer = {"_moobius_type": "moobius.types.Character", "_moobius_val": fields}
    older = {"_moobius_type": "moobius.types.Button", "_moobius_val": {"button_id": "b", "button_name": "B"}}
    gone = {"_moobius_type": "moobius.types.CanvasElement", "_moobius_val": {"text": "x"}}
    for key, data in {"newer": newer, "older": older, "gone": gone}.items():
        elsewhere.write(_requests.set_value(domain(engine), key, pb.Value(json=json.dumps(data))))
    d = container(engine)
    d["newer"].name = "Alice"
    d.save("newer")
    assert d["gone"] == gone
    with pytest.raises(UndecodableValueError, match=r"moobius\.types\.Button.*register decode"):
        d["older"]
    stored = json.loads(elsewhere.lookup(domain(engine), "newer").entry.value.json)["_moobius_val"]
    assert stored == fields | {"name": "Alice", "description": None, "character_context": None}


def test_only_dataclasses_of_the_sdk_are_found_by_name_and_nothing_is_imported(
    container: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(types, "Borrowed", Path, raising=False)
    monkeypatch.setattr(types, "Alias", types.Character, raising=False)
    d = container("json")
    for name in (
        "moobius.types.os",
        "moobius.types.os.system",
        "moobius.types.dataclass",
        "moobius.types.add_str_method",
        "moobius.types.logger",
        "moobius.types.Any",
        "moobius.types.Borrowed",
        "moobius.types.Alias",
        "moobius.types.",
        "moobius.types.Character.__init__",
        "moobius.core.sdk.Moobius",
        "moobius.json_utils.dacite",
    ):
        data = {"_moobius_type": name, "_moobius_val": {"character_id": "7", "name": "A"}}
        d["x"] = data
        assert container("json")["x"] == data, name


def test_without_the_sdk_its_data_stays_plain_and_the_log_says_what_to_import(
    container: Containers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    container("json")["x"] = character()
    forget()
    monkeypatch.delitem(sys.modules, "moobius.types")
    plain = container("json")["x"]
    assert plain["_moobius_type"] == "moobius.types.Character"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "import moobius.types" in record.getMessage()
    assert "moobius.types" not in sys.modules


def test_a_class_of_the_main_program_is_stored_under_its_module_and_the_log_says_how_to_read_it(
    target: str, channel: str, tmp_path: Path
) -> None:
    program = tmp_path / "main.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            from dataclasses import dataclass
            from neardict.moobius import MoobiusStorage

            @dataclass
            class Player:
                hp: int

            d = MoobiusStorage("1", sys.argv[1], {"implementation": "json", "name": "json"}).json
            print(d.get("alice"))
            d["alice"] = Player(7)
            d["alice"].hp += 1
            d.save("alice")
            """
        )
    )
    plain = {"_moobius_type": "__main__.Player", "_moobius_val": {"hp": 8}}
    advice = "put @neardict.register(name='__main__.Player') before"
    for read, warnings in ((None, 1), (plain, 2)):
        done = run(
            [sys.executable, str(program), channel],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
        assert done.stdout == f"{read}\n"
        assert done.stderr.count(advice) == warnings == done.stderr.count("\n")
    with_name = program.read_text().replace("@dataclass\n", '@register(name="__main__.Player")\n@dataclass\n')
    program.write_text("from neardict import register\n" + with_name)
    done = run(
        [sys.executable, str(program), channel], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert (done.stdout, done.stderr) == ("Player(hp=8)\n", "")
