"""The documentation site: its pages are complete, and the generated pages agree with the code."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import genets
from genets.cli import app
from genets.cli.app import COMMANDS

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs" / "generator"))

import api_pages  # noqa: E402
import command_pages  # noqa: E402
import evidence_page  # noqa: E402
import markdown_text  # noqa: E402
import notebook_page  # noqa: E402
import settings_page  # noqa: E402
import site_pages  # noqa: E402
import test_docs  # noqa: E402

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return site_pages.generated_pages()


@pytest.fixture(scope="module")
def places(generated: dict[str, str]) -> set[str]:
    return {*generated, *map(site_pages.place_of, site_pages.written_pages())}


def navigation(item: Any) -> Iterator[str]:
    """The places that a part of the navigation names."""
    if isinstance(item, str):
        yield item
    else:
        for each in item.values() if isinstance(item, dict) else item:
            yield from navigation(each)


def test_every_page_is_in_the_navigation_once(places: set[str]) -> None:
    assert Counter(navigation(SITE["nav"])) == Counter(places)


def test_the_build_is_strict() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = [each for each in makefile.splitlines() if "bin/mkdocs" in each]
    assert line.endswith("mkdocs build --strict")  # --quiet would hide the warnings from --strict
    assert ROOT / SITE["docs_dir"] == site_pages.SITE_PAGES
    checks = SITE["validation"]
    assert {value for part in checks.values() for value in part.values()} == {"warn"}


def test_every_link_of_a_page_leads_to_a_page(generated: dict[str, str], places: set[str]) -> None:
    texts = dict(generated)
    for path in site_pages.written_pages():
        place, text = site_pages.place_of(path), path.read_text(encoding="utf-8")
        texts[place] = site_pages.with_site_links(text, path, place)
    for place, text in texts.items():
        links = re.findall(r"\]\((?!\w+:)([^)#\s]+)[^)]*\)", text)
        folder = ROOT / "site" / Path(place).parent
        targets = {
            (folder / link).resolve().relative_to(ROOT / "site").as_posix() for link in links
        }
        files = {each for each in targets if (ROOT / "docs" / each).is_file()}
        assert targets - files <= places | {f"guides/{notebook_page.NOTEBOOK.name}"}, place


def test_links_between_the_repository_and_the_site(tmp_path: Path) -> None:
    guide, latency = ROOT / "docs/guides/engine.md", ROOT / "docs/latency.md"
    text = (
        "[a](../../CONTRIBUTING.md#x) [b](../latency.md) [c](https://a.b/c.md) [d](#here) "
        "[e](../reference/settings.md)"
    )
    assert site_pages.with_site_links(text, guide, "guides/engine.md") == (
        "[a](../contributing.md#x) [b](../latency.md) [c](https://a.b/c.md) [d](#here) "
        "[e](../reference/settings.md)"
    )
    changed = site_pages.with_site_links(
        "[a](docs/latency.md)", ROOT / "CHANGELOG.md", "changelog.md"
    )
    assert changed == "[a](latency.md)"
    assert site_pages.with_site_links("[a](study.md#x)", latency, "latency.md") == "[a](study.md#x)"


def test_the_pages_are_written_into_a_folder(tmp_path: Path, places: set[str]) -> None:
    site_pages.collect_pages(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md")} == places
    files = [*SITE["extra_css"], *SITE["extra"]["polyfills"]]
    assert all((tmp_path / name).is_file() for name in files)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_a_command_has_its_options(command: str, generated: dict[str, str]) -> None:
    text = generated[f"reference/commands/{command}.md"]
    help_text = CliRunner().invoke(app, [command, "--help"], terminal_width=200).output
    listed = help_text[help_text.index("Arguments:" if "Arguments:" in help_text else "--") :]
    options = set(re.findall(r"^ {2}(--[a-z-]+|-h, --help)", listed, flags=re.MULTILINE))
    assert "--json" in options
    assert {each for each in options if f"| `{each}" not in text} == set()
    assert f"[`genets {command}`]({command}.md)" in generated["reference/commands/index.md"]


def test_a_page_of_a_command_has_the_first_words_of_its_help(generated: dict[str, str]) -> None:
    text = generated["reference/commands/measure.md"]
    assert "# genets measure\n" in text
    assert "Measure the latency of a network on a target." in text
    assert "| `--batch-size` `<int>` | 64 | Number of images in one run. |" in text
    assert "<=x<=" not in text.replace("&lt;", "<")


def test_the_commands_of_generated_pages_parse(generated: dict[str, str]) -> None:
    commands = {each for text in generated.values() for each in test_docs.commands_in(text)}
    assert len(commands) > 30
    for command in commands:
        test_docs.check_command(command)


def test_the_page_of_settings_has_every_setting(generated: dict[str, str]) -> None:
    text = generated["reference/settings.md"]
    stored = tomllib.loads(genets.SearchSettings(data="digits", budget="0.5x").to_toml())
    for name, value in stored.items():
        if isinstance(value, dict):
            section = text.partition(f"## Table `[{name}]`\n")[2].partition("\n## ")[0]
            assert {each for each in value if f"\n| `{each}` | " not in section} == set()
        else:
            assert f"\n| `{name}` | " in text.partition("\n## Table")[0], name
    shown = settings_page.PRESETS
    assert set(re.findall(r"^### `([\w-]+)`", text, flags=re.MULTILINE)) == set(shown)


def test_the_example_of_the_settings_page_is_accepted() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", settings_page.INTRODUCTION, flags=re.DOTALL)
    settings = genets.SearchSettings(data="digits", **tomllib.loads(example))
    assert settings.target.device == "cuda"
    assert settings.space.blocks == ("XX3", "BL3r0.25", "DW3r6")


def test_arguments_are_read_from_a_docstring() -> None:
    text = (
        "A thing.\n\nArgs:\n    one: The first\n        of two.\n    two: `b`.\n\nRaises:\n    x: y"
    )
    assert settings_page.argument_texts(text) == {"one": "The first of two.", "two": "`b`."}


def test_the_api_pages_have_every_public_name_once(generated: dict[str, str]) -> None:
    main = Counter(name for _, names in api_pages.MAIN.values() for name in names)
    assert main == Counter(set(genets.__all__) - {"__version__"})
    directives = Counter(
        name
        for place, text in generated.items()
        if place.startswith(api_pages.FOLDER)
        for name in re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE)
    )
    assert set(directives.values()) == {1}
    assert set(map(api_pages.place_of, main)) <= set(directives)
    assert {"genets.data.load_data", "genets.core.errors.BusyDeviceError"} <= set(directives)


def test_the_page_of_evidence_has_every_file_of_results(generated: dict[str, str]) -> None:
    text = generated["reference/evidence.md"]
    results = evidence_page.RESULTS
    paths = [path.relative_to(ROOT).as_posix() for path in results.rglob("*.json")]
    assert len(paths) > 20
    assert [path for path in paths if f"File: `{path}`" not in text] == []
    record = json.loads((results / "kills.json").read_text(encoding="utf-8"))
    assert f"`{record['command']}` — {record['date']}; commit {record['commit']}" in text
    assert f"{record['finished_trials_lost']}; {record['trials_run_twice']}" in text
    assert "/tmp/" not in text


def test_figures_are_filled_in() -> None:
    record = {"a": {"b:6": [0.5, 2]}, "c d": 3}
    assert (
        evidence_page.fill("{a/b:6/0:.1%} of {c d}, {a/b:6/1:.1f}", record, "x")
        == "50.0% of 3, 2.0"
    )


@pytest.mark.parametrize("text", ["{a/c:.1f}", "{a/0}", "{a/b/2}", "{a/b/x}", "{a/b/0/0}"])
def test_a_figure_that_is_missing_stops_the_build(text: str) -> None:
    with pytest.raises(evidence_page.MissingFigureError, match=r"x\.json has no"):
        evidence_page.fill(text, {"a": {"b": [0.5, 2]}}, "x")


def test_a_file_of_results_that_is_missing_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "texts.toml").write_text("[gone]\ntitle = 'Gone'\n", encoding="utf-8")
    with pytest.raises(evidence_page.MissingFigureError, match="gone"):
        evidence_page.evidence_page(tmp_path, tmp_path / "texts.toml")


def test_a_file_of_results_without_a_text_is_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "texts.toml").write_text("", encoding="utf-8")
    record = {"command": "python benchmarks/new.py --out /home/me/a.json", "commit": "abc-dirty"}
    (tmp_path / "new.json").write_text(json.dumps(record), encoding="utf-8")
    text = evidence_page.evidence_page(tmp_path, tmp_path / "texts.toml")
    assert "## new\n" in text
    assert "- `python benchmarks/new.py --out a.json` — commit abc with later changes\n" in text


def write_notebook(path: Path, *cells: tuple[str, str]) -> None:
    made = [
        {"cell_type": kind, "source": source.splitlines(keepends=True)}
        | ({"outputs": [], "execution_count": None} if kind == "code" else {})
        for kind, source in cells
    ]
    path.write_text(json.dumps({"cells": made, "nbformat": 4}), encoding="utf-8")


def test_a_notebook_stores_what_its_cells_print(tmp_path: Path) -> None:
    path, before = tmp_path / "some.ipynb", Path.cwd()
    write_notebook(
        path,
        ("markdown", "# A title\n\nText."),
        ("code", "a = 2\nprint('a is', a)"),
        ("code", "open('b', 'w').close()\na += 1"),
        ("code", "print(a)"),
    )
    notebook_page.run_notebook(path)
    assert Path.cwd() == before
    assert not (before / "b").exists()
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [each.get("execution_count") for each in cells] == [None, 1, 2, 3]
    assert notebook_page.notebook_page(path) == (
        "# A title\n\n[Download the notebook](some.ipynb)\n\nText.\n\n"
        "```python\na = 2\nprint('a is', a)\n```\n\n```text\na is 2\n```\n\n"
        "```python\nopen('b', 'w').close()\na += 1\n```\n\n"
        "```python\nprint(a)\n```\n\n```text\n3\n```\n"
    )


def test_a_notebook_that_fails_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.ipynb"
    write_notebook(path, ("code", "print(1)"), ("code", "1 / 0"))
    before = path.read_text(encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        notebook_page.run_notebook(path)
    assert path.read_text(encoding="utf-8") == before


def test_the_names_and_calls_of_the_notebook_exist() -> None:
    notebook = json.loads(notebook_page.NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    text = "\n".join("".join(cell["source"]) for cell in code)
    test_docs.test_names_of_the_package_exist(text)
    test_docs.test_a_call_of_the_package_fits_its_signature(text)
    for line in test_docs.imports_in(text):
        test_docs.test_an_import_works(line)


def test_a_cell_shows_its_text_as_it_is() -> None:
    assert markdown_text.cell("a|b <c> `d|e`\n [f]") == "a&#124;b &lt;c&gt; `d|e` &#91;f&#93;"


def test_a_page_of_commands_is_made_for_every_command() -> None:
    assert {Path(place).stem for place in command_pages.command_pages()} == {"index", *COMMANDS}
