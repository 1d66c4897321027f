"""The README's commands and names exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

import genets
from genets.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
JOINED = README.replace("\\\n", " ")
COMMANDS = re.findall(r"^    (genets .*?)(?: +#.*)?$", JOINED, flags=re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_commands_and_code() -> None:
    assert len(COMMANDS) >= 4
    assert PYTHON


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command: str) -> None:
    words = shlex.split(command)[1:]
    group = typer.main.get_command(app)
    # Options of genets itself stand before the command.
    place = next(place for place, word in enumerate(words) if word in group.commands)
    group.make_context("genets", words[: place + 1])
    context = group.commands[words[place]].make_context(words[place], words[place + 1 :])
    assert not context.args


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, flags=re.MULTILINE))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("code", PYTHON)
def test_names_of_the_package_exist(code: str) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "genets"
    }
    assert used
    assert used <= set(dir(genets))


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).is_file()
