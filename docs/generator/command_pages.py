"""The reference of the commands, made from the commands themselves."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer

from genets.cli import app
from genets.cli.options import OTHER, PANELS
from markdown_text import cell, code, page, table

FOLDER = "reference/commands"
ARGUMENTS = "Arguments"


def command_pages() -> dict[str, str]:
    """Make a page for each command, and one that lists the commands; keys are paths."""
    group: Any = typer.main.get_command(app)
    pages = {
        f"{FOLDER}/{name}.md": command_page(name, each) for name, each in group.commands.items()
    }
    return {f"{FOLDER}/index.md": _overview(group), **pages}


def command_page(name: str, command: Any) -> str:
    """Make the page of one command: its help, and a table of options for each panel."""
    context = command.make_context(
        name, [], resilient_parsing=True, help_option_names=["-h", "--help"]
    )
    text, examples = split_help(command.help)
    panels: dict[str, list[tuple[str, str, str]]] = {each: [] for each in (ARGUMENTS, *PANELS)}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        is_argument = parameter.param_type_name == "argument"
        panel = ARGUMENTS if is_argument else getattr(parameter, "rich_help_panel", None) or OTHER
        meaning, default = split_default(record[1])
        panels[panel].append((_option_cell(record[0]), cell(default), cell(meaning)))
    sections = [
        f"## {title}\n\n{table((_kind(title), 'default', 'meaning'), rows)}"
        for title, rows in panels.items()
        if rows
    ]
    return page(f"genets {name}", text, _block(examples), *sections)


def split_help(text: str) -> tuple[str, list[str]]:
    """Split the help of a command into its text and its examples."""
    lines = inspect.cleandoc(text).replace("\b", "").splitlines()
    examples = [line for line in lines if line.startswith("genets ")]
    return "\n".join(line for line in lines if line not in examples).strip(), examples


def split_default(text: str) -> tuple[str, str]:
    """Split the help of an option into its meaning and its default."""
    meaning, *notes = re.split(r" {2}\[", text)
    words = [word for note in notes for word in note.removesuffix("]").split("; ")]
    limits = [word for word in words if "<=x" in word or "x>=" in word]
    return meaning, "; ".join(
        word.removeprefix("default: ") for word in words if word not in limits
    )


def _overview(group: Any) -> str:
    rows = [
        (f"[`genets {name}`]({name}.md)", cell(inspect.cleandoc(each.help).split("\n\n")[0]))
        for name, each in group.commands.items()
    ]
    context = group.make_context("genets", [], resilient_parsing=True)
    records = [each.get_help_record(context) for each in group.get_params(context)]
    options = [(code(record[0]), cell(split_default(record[1])[0])) for record in records if record]
    return page(
        "Commands",
        "Each command has `-h` for help and `--json` for machines. `genets --install-completion` "
        "lets your shell complete commands and options.",
        table(("command", "what the command does"), rows),
        "## Options of `genets` itself\n\nThese options stand before the name of the command, as "
        "in `genets -v zoo`.",
        table(("option", "meaning"), options),
        "[Exit statuses](../../exit_status.md) lists the numbers with which a command ends.",
    )


def _option_cell(text: str) -> str:
    """Show an option, and behind it the form of its value, each as code."""
    name, _, value = text.partition(" ")
    if name.endswith(","):  # as in `-h, --help`
        return code(text)
    return f"{code(name)} {code(value.replace('|', ' | '))}".strip()


def _kind(panel: str) -> str:
    return "argument" if panel == ARGUMENTS else "option"


def _block(lines: list[str]) -> str:
    return "```bash\n" + "\n".join(lines) + "\n```" if lines else ""
