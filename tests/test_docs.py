"""The commands, names, programs and links in README and docs exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

import genets
from genets.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
GUIDE = ROOT / "CONTRIBUTING.md"
ALL_PAGES = [ROOT / "README.md", *PAGES, GUIDE]
GROUP = typer.main.get_command(app)
GENERAL_OPTIONS = {
    option
    for each in GROUP.get_params(GROUP.make_context("genets", [], resilient_parsing=True))
    for option in each.opts
}
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
    words = shlex.split(text.partition(" > ")[0])[1:]
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
    if set(shlex.split(text)[1:]) <= GENERAL_OPTIONS:
        return  # such as `genets --version`
    words, arguments = split_command(text)
    command = GROUP.commands[words[-1]]
    params = command.get_params(command.context_class(command))  # which builds the options
    known = {option for each in params for option in each.opts}
    assert {word for word in arguments if word.startswith("-")} <= known


def cases(find: object, *pages: Path) -> list[object]:
    return [
        pytest.param(command, id=f"{page.name}: {command}")
        for page in pages
        for command in dict.fromkeys(find(page.read_text(encoding="utf-8")))
    ]


def test_there_are_commands_and_code() -> None:
    assert len(commands_in(README)) >= 4
    assert code_in(README, "python")
    assert {page.name for page in PAGES if commands_in(page.read_text("utf-8"))} >= {
        "compare.md", "eval.md", "own_blocks.md", "rank.md", "report.md", "search.md", "training.md"
    }  # fmt: skip


@pytest.mark.parametrize("command", cases(commands_in, *ALL_PAGES))
def test_a_command_parses(command: str) -> None:
    check_command(command)


@pytest.mark.parametrize("command", cases(inline_commands_in, *ALL_PAGES))
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


def make_targets_in(text: str) -> list[str]:
    return re.findall(r"(?:^ {4}|`)make ([\w-]+)", text, flags=re.MULTILINE)


@pytest.mark.parametrize("target", cases(make_targets_in, *ALL_PAGES))
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def programs_in(text: str) -> list[str]:
    """The lines `python benchmarks/...` and the like, in sentences and in code blocks."""
    text = text.replace("\\\n", " ")
    inline = re.findall(r"`(python (?:benchmarks|examples|docs)/[^`]+)`", text)
    lines = re.findall(r"^ {4,}(python (?:benchmarks|examples|docs)/.*)", text, flags=re.MULTILINE)
    return [" ".join(each.partition(" #")[0].split()) for each in (*inline, *lines)]


@pytest.mark.parametrize("line", cases(programs_in, *ALL_PAGES))
def test_a_program_exists_and_knows_its_options(line: str) -> None:
    _, program, *words = shlex.split(line.replace("...", ""))
    source = (ROOT / program).read_text(encoding="utf-8")
    shared = (ROOT / "benchmarks" / "conditions.py").read_text(encoding="utf-8")
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert not [each for each in options if f'"{each}"' not in source + shared]


def paths_in(text: str) -> list[str]:
    return re.findall(r"`((?:src|tests|benchmarks|examples|docs)/[\w./-]+)`", text)


@pytest.mark.parametrize("path", cases(paths_in, *ALL_PAGES))
def test_a_path_of_the_project_exists(path: str) -> None:
    assert (ROOT / path).exists()


def code_in(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def python_in(text: str) -> list[str]:
    return code_in(text, "python")


def toml_in(text: str) -> list[str]:
    return code_in(text, "toml")


@pytest.mark.parametrize("code", cases(python_in, *ALL_PAGES))
def test_names_of_the_package_exist(code: str) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "genets"
    }
    assert used or "genets" not in code or "from genets" in code
    assert used <= set(dir(genets))


@pytest.mark.parametrize("code", cases(python_in, *ALL_PAGES))
def test_a_call_of_the_package_fits_its_signature(code: str) -> None:
    settings = genets.SearchSettings
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).startswith("genets."):
            continue
        name = ast.unparse(node.func).removeprefix("genets.")
        if "." in name or name not in genets.__all__ or name == "SearchSettings":
            continue
        given = [each.arg for each in node.keywords if each.arg]
        bound = inspect.signature(getattr(genets, name)).bind(
            *node.args, **dict.fromkeys(given, None)
        )
        if name == "search":
            free = set(bound.arguments.get("settings", {}))
            assert free <= {*settings.model_fields, *settings.other_names}


def imports_in(text: str) -> list[str]:
    return re.findall(r"^ *(from genets[\w.]* import .+)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("line", cases(imports_in, *ALL_PAGES))
def test_an_import_works(line: str) -> None:
    (statement,) = ast.parse(line).body
    assert isinstance(statement, ast.ImportFrom)
    module = importlib.import_module(str(statement.module))
    assert all(hasattr(module, each.name) for each in statement.names)


@pytest.mark.parametrize("text", cases(toml_in, *ALL_PAGES))
def test_toml_is_valid(text: str) -> None:
    assert tomllib.loads(text)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", README))))
def test_a_link_leads_somewhere(link: str) -> None:
    name, _, anchor = link.partition("#")
    page = ROOT / (name or "README.md")
    assert page.is_file()
    if anchor:
        assert anchor in anchors_in(page.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("own_block_types")
def test_the_block_file_of_the_guide_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "own_blocks.md").read_text(encoding="utf-8")
    (tmp_path / "my_block.py").write_text(python_in(page)[0], encoding="utf-8")
    assert genets.load_blocks(tmp_path / "my_block.py").types == ("Sep",)
    words = next(shlex.split(each) for each in commands_in(page) if " measure " in each)
    network = genets.build(genets.Structure.parse(words[words.index("measure") + 1]), 10)
    assert sum(type(module).__name__ == "SeparableBlock" for module in network.modules()) == 2


def anchors_in(text: str) -> set[str]:
    """The anchors of the headings of a page, as a repository and the site make them."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_anchors_are_made_from_headings() -> None:
    text = "# A: title, of `code`\n\ntext\n\n## What differs, and why?\n"
    assert anchors_in(text) == {"a-title-of-code", "what-differs-and-why"}


def test_the_statuses_on_the_page_are_those_of_the_errors() -> None:
    from genets.cli.app import INTERRUPTED, TERMINATED
    from genets.core import errors

    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    statuses = {each.exit_status for each in kinds if issubclass(each, errors.GenetsError)}
    page = (ROOT / "docs" / "exit_status.md").read_text(encoding="utf-8")
    listed = {int(status) for status in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)}
    assert listed == statuses | {0, INTERRUPTED, TERMINATED}


def test_the_page_on_citing_agrees_with_the_citation_file() -> None:
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
    (paper,) = facts["references"]
    authors = [f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]]
    version = facts["version"]
    for text in (facts["title"], version, facts["license"], paper["title"], " and ".join(authors)):
        assert f"{{{text}}}" in page
    assert version == genets.__version__
    assert f"{{{paper['year']}}}" in page
    assert paper["identifiers"][0]["value"] in page


def test_the_files_of_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = ("src", "tests", "benchmarks")
    files = [f"/{path}" for folder in folders for path in (ROOT / folder).rglob("*.py")]
    named = re.findall(r"`([\w/]+\.py)`", text)
    assert len(named) > 50
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in files)] == []
