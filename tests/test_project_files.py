"""The project's own files agree: lock file, version, supported Pythons, workflow, guide."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
DOCS_LOCK = (ROOT / "requirements-docs.lock").read_text(encoding="utf-8")
both_locks = pytest.mark.parametrize("lock", [LOCK, DOCS_LOCK], ids=["packages", "docs"])
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@both_locks
def test_every_locked_package_has_a_version_and_hashes(lock):
    entries = re.split(r"\n(?=[a-z0-9])", lock.partition("make lock\n")[2])
    assert len(entries) > 30
    for entry in entries:
        requirement = Requirement(entry.partition("\\")[0].strip())
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], entry
        assert "--hash=sha256:" in entry


@both_locks
def test_the_lock_names_no_index_and_no_path(lock):
    assert "://" not in lock
    assert "index-url" not in lock
    assert "find-links" not in lock


def test_the_lock_keeps_the_limits_of_pyproject():
    locked = locked_versions(LOCK)
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.extras == set(extras) - {"all"}
    lines = [line for name in everything.extras for line in extras[name]]
    for line in (*project["dependencies"], *lines, *PROJECT["dependency-groups"]["dev"]):
        requirement = Requirement(line)
        assert requirement.name in locked, f"{line}: run `make lock`"
        assert all(v in requirement.specifier for v in locked[requirement.name]), line


def test_the_lock_of_the_docs_keeps_its_limits_and_is_apart():
    locked = locked_versions(DOCS_LOCK)
    for line in PROJECT["dependency-groups"]["docs"]:
        requirement = Requirement(line)
        assert requirement.name in locked, f"{line}: run `make lock`"
        assert all(v in requirement.specifier for v in locked[requirement.name]), line
    assert not [name for name in locked_versions(LOCK) if name.startswith("mkdocs")]
    assert "torch" not in locked


def locked_versions(lock):
    versions: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==([^ ]+)", lock, re.MULTILINE):
        versions.setdefault(name, []).append(Version(version))
    return versions


def test_the_version_stands_in_one_place():
    import genets

    assert "version" in PROJECT["project"]["dynamic"]
    path = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{genets.__version__}"' in path.read_text(encoding="utf-8").splitlines()


def test_the_workflow_runs_on_every_supported_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    tested = workflow["jobs"]["gate"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    classifiers = [c.removeprefix(prefix) for c in PROJECT["project"]["classifiers"]]
    assert tested == [name for name in classifiers if re.fullmatch(r"3\.\d+", name)]
    assert PROJECT["project"]["requires-python"] == f">={tested[0]}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:src|tests|docs)/[\w./]+)`", GUIDE))))
def test_a_path_of_the_guide_exists(path):
    assert (ROOT / path).exists()


def test_names_and_make_targets_of_the_guide_exist():
    sources = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    names = re.findall(r"`([A-Z][A-Z_]+|[A-Z][a-z]+[A-Z]\w+)`", GUIDE)
    assert {"ENGINES", "ImageData"} <= set(names)
    assert not [name for name in names if not re.search(rf"\b{name}\b", sources)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"`make (\w[\w-]*)`", GUIDE)
    assert len(targets) >= 5
    assert not [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]
