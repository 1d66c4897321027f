"""The documentation site: its pages are complete, and the generated pages agree with the code."""

from __future__ import annotations

import json
import re
import signal
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
import figure5  # noqa: E402
import markdown_text  # noqa: E402
import notebook_page  # noqa: E402
import page_picture  # noqa: E402
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
        others = {f"guides/{notebook_page.NOTEBOOK.name}", *site_pages.OTHER_FILES}
        assert targets - files <= places | others, place


@pytest.mark.parametrize("place", ["index.md", "guides/index.md"])
def test_a_table_of_links_has_the_titles_of_the_pages(
    place: str, generated: dict[str, str]
) -> None:
    folder = ROOT / "docs"
    rows = [row for row in (folder / place).read_text("utf-8").splitlines() if row[:1] == "|"]
    links = re.findall(r"\[([^]]+)\]\(([^)#]+)\)", "\n".join(rows))
    assert len(links) >= 10
    for words, link in links:
        path = (folder / place).parent / link
        name = path.resolve().relative_to(folder).as_posix()
        text = generated.get(name) or path.read_text(encoding="utf-8")
        assert text.startswith(f"# {words}\n"), link


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
    cite = ROOT / "docs/cite.md"
    assert (
        site_pages.with_site_links("[a](../CITATION.cff)", cite, "cite.md") == "[a](CITATION.cff)"
    )
    changed = site_pages.with_site_links(
        "[a](docs/latency.md)", ROOT / "CHANGELOG.md", "changelog.md"
    )
    assert changed == "[a](latency.md)"
    assert site_pages.with_site_links("[a](study.md#x)", latency, "latency.md") == "[a](study.md#x)"


def test_the_pages_are_written_into_a_folder(tmp_path: Path, places: set[str]) -> None:
    site_pages.collect_pages(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md")} == places
    files = [*SITE["extra_css"], *SITE["extra"]["polyfills"], *site_pages.OTHER_FILES]
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


def test_the_committed_page_of_evidence_has_the_committed_figures() -> None:
    committed = evidence_page.PAGE.read_text(encoding="utf-8")
    assert committed == evidence_page.evidence_page(), "run: python docs/generator/evidence_page.py"


def test_the_targets_link_to_the_sections_of_their_figures(generated: dict[str, str]) -> None:
    text = generated["reference/evidence.md"]
    headings = [evidence_page.slug(title) for title in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    targets = text.partition("## Figures and their targets\n")[2].partition("\n## ")[0]
    links = re.findall(r"\(#(.*?)\)", targets)
    assert len(links) > 10
    assert set(links) <= set(headings)
    assert len(headings) == len(set(headings))


def test_figure_5_has_the_published_accuracy_of_each_measured_network() -> None:
    record = {
        "network": "GENet-large",
        "resolution": 256,
        "ms_per_image": 0.5,
        "low": 0.4,
        "high": 1,
    }
    (row,) = figure5.comparison_rows([record], figure5.GPU)
    assert (row.top1_percent, row.family, row.ms_per_image) == (81.3, "GENet", 0.5)
    assert row.measurement is not None
    assert row.measurement.noisy


def test_every_picture_stands_on_a_page() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in site_pages.written_pages())
    names = [path.name for path in (ROOT / "docs" / "pictures").iterdir()]
    assert len(names) >= 5
    assert [name for name in names if f"pictures/{name})" not in pages] == []


STUDY_PAGE = (
    "<html><head></head><body><h1>Two times as fast</h1>"
    "<section><h2>Result</h2></section><section><h2>Frontier: cpu</h2></section></body></html>"
)


def test_a_picture_hides_the_sections_that_are_not_named() -> None:
    shown = page_picture.shown_page(STUDY_PAGE, ["Frontier"])
    assert "section:nth-of-type(1) { display: none; }" in shown
    assert "nth-of-type(2)" not in shown
    assert page_picture.CHARTS_ONLY not in shown
    assert page_picture.CHARTS_ONLY in page_picture.shown_page(
        STUDY_PAGE, ["Frontier"], charts_only=True
    )


def test_a_picture_of_a_section_that_is_missing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'Trials'.*'Result', 'Frontier: cpu'"):
        page_picture.shown_page(STUDY_PAGE, ["Result", "Trials"])


def test_a_picture_is_cut_to_its_content() -> None:
    drawn = page_picture.Image.new("RGB", (60, 400), "white")
    drawn.paste("black", (10, 5, 30, 100))
    assert page_picture.trimmed(drawn).size == (60, 100 + page_picture.BORDER)
    assert page_picture.trimmed(page_picture.Image.new("RGB", (60, 40), "white")).size == (60, 40)


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
    notebook_page.store_notebook(path)
    assert Path.cwd() == before
    assert not (before / "b").exists()
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [each.get("execution_count") for each in cells] == [None, 1, 2, 3]
    assert notebook_page.notebook_page(notebook_page.read_notebook(path), "A note.") == (
        "# A title\n\n[Download the notebook](quickstart.ipynb). To run it, install Jupyter in the "
        "environment of genets (`pip install notebook`), and give the command `jupyter notebook "
        "quickstart.ipynb`.\n\nA note.\n\nText.\n\n"
        "```python\na = 2\nprint('a is', a)\n```\n\n```text\na is 2\n```\n\n"
        "```python\nopen('b', 'w').close()\na += 1\n```\n\n"
        "```python\nprint(a)\n```\n\n```text\n3\n```\n"
    )


def test_a_notebook_that_fails_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.ipynb"
    write_notebook(path, ("code", "print(1)"), ("code", "1 / 0"))
    before = path.read_text(encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        notebook_page.store_notebook(path)
    assert path.read_text(encoding="utf-8") == before


def test_the_build_shows_what_a_run_of_the_notebook_prints(tmp_path: Path) -> None:
    path = tmp_path / "some.ipynb"
    write_notebook(path, ("markdown", "# A title"), ("code", "print(6 * 7)"))
    before = path.read_text(encoding="utf-8")
    text = site_pages.page_of_a_run(path)
    assert text is not None
    assert site_pages.RAN in text
    assert "```text\n42\n```" in text
    assert path.read_text(encoding="utf-8") == before
    site_pages.collect_pages(tmp_path / "pages", text)
    assert (tmp_path / "pages" / site_pages.NOTEBOOK_PLACE).read_text(encoding="utf-8") == text


def test_on_a_busy_machine_the_build_shows_the_stored_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.ipynb"
    busy = "import genets.core.errors as e\nraise e.BusyDeviceError('the CPU is busy')"
    write_notebook(path, ("code", busy))
    assert site_pages.page_of_a_run(path) is None
    assert "the CPU is busy" in capsys.readouterr().err
    site_pages.collect_pages(tmp_path / "pages")
    stored = (tmp_path / "pages" / site_pages.NOTEBOOK_PLACE).read_text(encoding="utf-8")
    assert site_pages.STORED in stored


def test_a_notebook_that_takes_too_long_is_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.ipynb"
    endless = "while True:\n    try:\n        sum(range(100))\n    except Exception:\n        pass"
    write_notebook(path, ("code", endless))
    assert site_pages.page_of_a_run(path, limit_s=0.01) is None
    assert "did not end within 0.01 seconds" in capsys.readouterr().err
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_mistake_in_the_notebook_stops_the_build(tmp_path: Path) -> None:
    path = tmp_path / "some.ipynb"
    write_notebook(path, ("code", "1 / 0"))
    with pytest.raises(ZeroDivisionError):
        site_pages.page_of_a_run(path)


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
