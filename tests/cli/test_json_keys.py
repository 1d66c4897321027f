"""The check of printed keys works, and some test makes it for every command."""

import re
from pathlib import Path

import pytest

from genets.cli import app
from json_keys import KEYS, check_keys, keys_of

TESTS = Path(__file__).parents[1]


def test_every_command_is_checked_by_some_test() -> None:
    sources = (path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    checked = {name for text in sources for name in re.findall(r'check_keys\("(.+?)", ', text)}
    assert checked == set(KEYS)
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands <= set(KEYS)


def test_keys_of_lists_and_of_data() -> None:
    record = {"rows": [{"a": 1}, {"b": {"c": 2}}], "accuracy": {"cpu-1": {"top1": 1}}, "d": None}
    assert keys_of(record) == {
        "": {"rows", "accuracy", "d"},
        "rows[]": {"a", "b"},
        "rows[].b": {"c"},
        "accuracy.*": {"top1"},
    }


def test_a_new_key_passes_and_a_lost_one_is_named() -> None:
    record = {"asked": 1, "alternatives": [dict.fromkeys(KEYS["select"][""].split(", "))]}
    check_keys("select --top", record | {"more": 1})
    del record["alternatives"][0]["high_ms"]
    with pytest.raises(AssertionError, match=r"lost keys .*\[\]: high_ms'\]; new keys: \[': more"):
        check_keys("select --top", record | {"more": 1})
