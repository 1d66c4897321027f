"""The page of evidence, made from the files in benchmarks/results.

    python docs/generator/evidence_page.py     # writes docs/reference/evidence.md

`evidence.toml` says what the figures of a file mean and which of them the page shows. A file that
it does not name is on the page, too, with its conditions. The page is committed, so that it can be
read without the site.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_text import cell, code, page, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
TEXTS = Path(__file__).with_name("evidence.toml")
PAGE = ROOT / "docs" / "reference" / "evidence.md"
LIBRARIES = ("torch", "onnxruntime", "openvino", "timm")

INTRODUCTION = """
Every figure of genets comes from a program in `benchmarks/`. The program writes its figures to
`benchmarks/results/`, together with the command, the date, the commit and the machine. This page is
made from these files.

- [What the figures mean](../figures.md) explains the words and the intervals.
- A figure describes one machine, one data set and the named commit. Run the command on your own
  machine before you rely on the figure.
- "±" is the standard deviation over search seeds, if the text does not say otherwise.
- Nearly all figures are from two cores of an AMD EPYC without a GPU. genets ran once on a GPU, at
  an early commit: [GPUs](../gpu.md#what-was-measured-and-what-was-not).

## Which figures are older than the code

The accuracy model predicts from the trials of a search how accurate a network is. This model was
changed between 2026-11-23 and 2026-11-28.

- Figures of a search that are dated 2026-11-28 or later: the present accuracy model.
- The winner against a scaled MasterNet: also the present accuracy model, but before the last repair
  of the choice of candidates.
- Figures of a search that are dated 2026-11-23 or earlier: an older accuracy model.

Since commit e0fd033 (2026-11-30), the engine torch on a CPU moves a network in memory before each
sample. Latencies at earlier commits were measured without that.

Since commit f0673a5 (2026-11-30), a search that inherits weights screens structures, and has fewer
trials and candidates. Searches at earlier commits had no screening.

`python benchmarks/ages.py` counts the changes of the code since each figure was measured.
"""


class MissingFigureError(ValueError):
    """`evidence.toml` names a figure that the file of results lacks."""


def evidence_page(results: Path = RESULTS, texts: Path = TEXTS) -> str:
    """Make the page from a folder of results and the file of texts."""
    described = tomllib.loads(texts.read_text(encoding="utf-8"))
    files = {
        path.relative_to(results).with_suffix("").as_posix(): path
        for path in sorted(results.rglob("*.json"))
    }
    missing = sorted(set(described) - set(files))
    if missing:
        raise MissingFigureError(
            f"evidence.toml names {missing[0]}, and {results} has no such file"
        )
    sections, rows = [], []
    for name in [*described, *(name for name in files if name not in described)]:
        record = json.loads(files[name].read_text(encoding="utf-8"))
        sections.append(section(name, record, described.get(name, {})))
        rows += summary_rows(name, record, described.get(name, {}))
    return page("Evidence", INTRODUCTION, summary(rows), *sections)


def summary(rows: Iterable[Sequence[str]]) -> str:
    """Make the table of the figures that have a target."""
    header = ("figure", "target", "measured", "details")
    text = "The last column names the program, and leads to its figures, commands and conditions."
    return f"## Figures and their targets\n\n{text}\n\n{table(header, rows)}"


def summary_rows(
    name: str, record: Mapping[str, Any], described: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """Give the rows of one file of results in the table of targets, with links to its section."""
    command = next((run["command"] for run in runs(record) if "command" in run), f"{name}.json")
    program = re.sub(r"^python benchmarks/", "", command).split()[0]
    link = f"[{program}](#{slug(described.get('title', name))})"
    return [
        (*(cell(fill(text, record, name)) for text in row), link)
        for row in described.get("summary", [])
    ]


def slug(title: str) -> str:
    """Give the anchor that a heading has on the site and in the repository."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def section(name: str, record: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """Make the section of one file of results."""
    rows = [
        tuple(cell(fill(text, record, name)) for text in row) for row in described.get("rows", [])
    ]
    parts = [
        f"## {described.get('title', name)}",
        described.get("text", "").strip(),
        table(("figure", "value"), rows) if rows else "",
        conditions(name, record),
    ]
    return "\n\n".join(part for part in parts if part)


def fill(text: str, record: Mapping[str, Any], name: str) -> str:
    """Replace each `{path/to/figure:format}` of a text by the figure."""

    def figure(match: re.Match[str]) -> str:
        value: Any = record
        for key in match[1].split("/"):
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise MissingFigureError(f"evidence.toml: {name}.json has no {match[1]}") from None
        return format(value, match[2] or "")

    return re.sub(r"\{([^{}]+?)(?::([^{}:/]*))?\}", figure, text)


def conditions(name: str, record: Mapping[str, Any]) -> str:
    """List the command of each run with its date, its commit and its machine."""
    lines = []
    for run in runs(record):
        about = [run.get("date", ""), _commit(run), _machine(run.get("environment", {}))]
        details = "; ".join(part for part in about if part)
        command = code(_plain_command(run.get("command", "")))
        lines.append(" — ".join(part for part in (command, details) if part))
    lines = list(dict.fromkeys(lines)) or ["The file names no command."]
    place = f"File: `benchmarks/results/{name}.json`"
    return "\n".join(["Command and conditions:", "", *(f"- {line}" for line in (*lines, place))])


def runs(record: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Give the runs of a file: the file itself, or each of its targets."""
    targets = record.get("targets")
    each = list(targets.values()) if isinstance(targets, Mapping) else []
    return [run for run in (record, *each) if "command" in run or "environment" in run]


def _commit(run: Mapping[str, Any]) -> str:
    commit, dirty, _ = str(run.get("commit", "")).partition("-dirty")
    if not commit:
        return ""
    return f"commit {commit}" + (" with later changes" if dirty else "")


def _machine(environment: Mapping[str, Any]) -> str:
    if not environment:
        return ""
    packages = environment.get("packages", {})
    parts = [
        str(environment.get("device_name", "")),
        f"{environment['cpus']} CPUs" if "cpus" in environment else "",
        f"{environment['threads']} threads" if environment.get("threads") else "",
        str(environment.get("capability", "")),
        f"load {environment['load_average']:.1f}" if "load_average" in environment else "",
        f"Python {environment['python']}" if "python" in environment else "",
        *(f"{name} {packages[name]}" for name in LIBRARIES if name in packages),
    ]
    return ", ".join(part for part in parts if part)


def _plain_command(command: str) -> str:
    """Leave out the place of files outside the project, which no other machine has."""
    return re.sub(r"(?<= )/\S+/", "", command)


if __name__ == "__main__":
    PAGE.write_text(evidence_page(), encoding="utf-8")
