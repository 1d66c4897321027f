"""How old each committed figure is: its day, its commit, and the commits to the code since.

    python benchmarks/ages.py

A file that names no commit is taken to be of the commit that brought it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conditions import RESULTS, git, read_result

CODE = "src"


def main() -> None:
    print(f"{'figures':60} {'day':10}  {'commit':8} commits to {CODE} since")
    for path in sorted(RESULTS.glob("*.json")):
        for name, record in records(path.stem):
            commit = record.get("commit", "").removesuffix("-dirty") or git("log", "-1",
                     "--format=%h", "--", str(path))  # fmt: skip
            since = git("rev-list", "--count", f"{commit}..HEAD", "--", CODE)
            print(f"{name:60} {record.get('date', ''):10}  {commit[:8]:8} {since}")


def records(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was measured in one run, named; a file of several targets holds several."""
    record = read_result(name)
    if set(record) != {"targets"}:
        yield name, record
        return
    for target, its in record["targets"].items():
        yield f"{name}: {target}", its


if __name__ == "__main__":
    main()
