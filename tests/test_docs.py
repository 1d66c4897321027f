"""The commands and names in README and docs exist."""

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
PAGES = sorted((ROOT / "docs").glob("*.md"))
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
GROUP = typer.main.get_command(app)
USAGE_ERROR = typer.BadParameter.__base__  # of click, which newer versions of typer contain


def commands_in(text: str) -> list[str]:
    """The lines `genets ...` of code blocks, indented or fenced, without their comments."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [*re.findall(r"^ {4,}(.*)", text, flags=re.MULTILINE), *"".join(blocks).splitlines()]
    found = (re.search(r"(?:^|-m |: )(genets (?:-|[a-z]).*?)(?: +#.*)?$", line) for line in lines)
    return [match[1] for match in found if match]


def inline_commands_in(text: str) -> list[str]:
    """What stands as `genets ...` in a sentence, perhaps without its arguments."""
    return [" ".join(words.split()) for words in re.findall(r"`(genets [^`]*)`", text)]


def split_command(text: str) -> tuple[list[str], list[str]]:
    """The words of `genets ...` up to the command, and those behind it."""
    words = shlex.split(text)[1:]
    # Options of genets itself stand before the command.
    place = next((place for place, word in enumerate(words) if word in GROUP.commands), None)
    assert place is not None, f"no command of genets in: {text}"
    return words[: place + 1], words[place + 1 :]


def check_command(text: str) -> None:
    """Fail if genets would refuse the words; where `...` stands for some, if it lacks an option."""
    words, arguments = split_command(text)
    GROUP.make_context("genets", list(words))
    if "..." in arguments:
        check_options(text)
    else:
        assert not GROUP.commands[words[-1]].make_context(words[-1], arguments).args


def check_options(text: str) -> None:
    words, arguments = split_command(text)
    known = {option for each in GROUP.commands[words[-1]].params for option in each.opts}
    assert {word for word in arguments if word.startswith("-")} <= known


def cases(find: object, *pages: Path) -> list[object]:
    return [
        pytest.param(command, id=f"{page.name}: {command}")
        for page in pages
        for command in dict.fromkeys(find(page.read_text(encoding="utf-8")))
    ]


def test_there_are_commands_and_code() -> None:
    assert len(commands_in(README)) >= 4
    assert PYTHON
    assert {page.name for page in PAGES if commands_in(page.read_text("utf-8"))} >= {
        "compare.md", "eval.md", "own_blocks.md", "rank.md", "report.md", "search.md", "training.md"
    }  # fmt: skip


@pytest.mark.parametrize("command", cases(commands_in, ROOT / "README.md", *PAGES))
def test_a_command_parses(command: str) -> None:
    check_command(command)


@pytest.mark.parametrize("command", cases(inline_commands_in, ROOT / "README.md", *PAGES))
def test_a_command_in_a_sentence_has_its_options(command: str) -> None:
    check_options(command)


def test_commands_are_found_in_every_kind_of_block() -> None:
    text = """
genets in a sentence, and `genets zoo
--json`:

    genets zoo --json   # all
    warning: go on with: genets search --out a
    torchrun --nnodes 2 \\
        -m genets train --out a

```bash
genets --own-blocks mine.py zoo
```
"""
    assert commands_in(text) == [
        "genets zoo --json",
        "genets search --out a",
        "genets train --out a",
        "genets --own-blocks mine.py zoo",
    ]
    assert inline_commands_in(text) == ["genets zoo --json"]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("genets trains a", AssertionError),
        ("genets zoo --jsn", USAGE_ERROR),
        ("genets search --budget 1x", USAGE_ERROR),
        ("genets search ... --bud", AssertionError),
    ],
)
def test_a_wrong_command_is_noticed(command: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_command(command)


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
