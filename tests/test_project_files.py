"""The lock file covers the project's dependencies and is bound to no machine."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_locked_package_has_a_version_and_hashes():
    entries = re.split(r"\n(?=[a-z0-9])", LOCK.partition("make lock\n")[2])
    assert len(entries) > 30
    for entry in entries:
        requirement = Requirement(entry.partition("\\")[0].strip())
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], entry
        assert "--hash=sha256:" in entry


def test_the_lock_names_no_index_and_no_path():
    assert "://" not in LOCK
    assert "index-url" not in LOCK
    assert "find-links" not in LOCK


def test_the_lock_keeps_the_limits_of_pyproject():
    locked: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==([^ ]+)", LOCK, re.MULTILINE):
        locked.setdefault(name, []).append(Version(version))
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["onnx"],
        *PROJECT["dependency-groups"]["dev"],
    ]
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.name in locked, f"{line}: run `make lock`"
        assert all(v in requirement.specifier for v in locked[requirement.name]), line
