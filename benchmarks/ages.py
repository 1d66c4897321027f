"""How old each committed figure is: its date, its commit, and the number of later code commits.

    python benchmarks/ages.py

For a file that names no commit, the commit that last changed the file is used.
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
    """The runs of a file with their names; a file of several targets has one run per target."""
    record = read_result(name)
    if set(record) != {"targets"}:
        yield name, record
        return
    for target, run in record["targets"].items():
        yield f"{name}: {target}", run


if __name__ == "__main__":
    main()
