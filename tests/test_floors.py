"""Floors of the package: upper ones import lower ones, never back, never sideways."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import genets

PACKAGE = Path(genets.__file__).parent
LEVELS = (  # from the top; names on one level do not import each other
    {"cli"},
    {"report"},
    {"nas"},
    {"analysis"},
    {"training", "latency"},
    {"networks", "data"},
    {"structure"},
    {"core"},
)
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
ABOVE_ALL = {"__init__", "__main__"}  # the public API and `python -m genets`


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Absolute names of all that `source`, a module of `package`, imports, wherever it does so."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parents = package.split(".")[: 1 - level or None] if level else []
                base = ".".join([*parents, *([module] if module else [])])
                # `from genets import nas` imports the floor, not a name of the package
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module")
                | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def violations(floor: str, modules: Iterator[str]) -> list[str]:
    """Those of `modules` that a module of `floor` may not import."""
    wrong = []
    for module in modules:
        root, _, rest = module.partition(".")
        if root != "genets":
            continue
        target = rest.partition(".")[0]
        lower = target in LEVEL and LEVEL[target] > LEVEL[floor]
        if target != floor and not lower:
            wrong.append(module)
    return wrong


def modules_of(path: Path) -> Iterator[str]:
    parts = path.relative_to(PACKAGE.parent).parts[:-1]
    return imported_modules(path.read_text(encoding="utf-8"), ".".join(parts))


SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).stem]


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    floor = floor_of(path)
    if floor in ABOVE_ALL:
        return
    assert floor in LEVEL, f"{floor} is no floor of the design; give it a level here"
    assert violations(floor, modules_of(path)) == []


@pytest.mark.parametrize(
    ("floor", "source", "expected"),
    [
        ("nas", "from genets.training import train", []),
        ("nas", "from genets.nas import trial", []),
        ("nas", "import torch, numpy.random", []),
        ("structure", "import genets.networks", ["genets.networks"]),
        ("structure", "from genets import zoo", ["genets.zoo"]),
        ("structure", "import genets", ["genets"]),
        ("structure", "def f():\n    from genets.nas import study", ["genets.nas.study"]),
        ("structure", "from ..nas import study", ["genets.nas.study"]),
        ("structure", "from .. import data", ["genets.data"]),
        ("structure", "from . import block", []),
        ("structure", "from .block import Block", []),
        ("structure", "import importlib\nimportlib.import_module('genets.cli')", ["genets.cli"]),
        ("training", "from genets.latency import clock", ["genets.latency.clock"]),
        ("data", "from genets.networks import build", ["genets.networks.build"]),
        ("core", "from genets.structure import zoo", ["genets.structure.zoo"]),
    ],
)
def test_the_rule_itself(floor, source, expected):
    assert violations(floor, imported_modules(source, f"genets.{floor}")) == expected


def test_structure_imports_no_torch():
    roots = {
        module.partition(".")[0]
        for path in SOURCES
        if floor_of(path) in {"structure", "core"}
        and path != PACKAGE / "core" / "validation.py"  # pydantic, which the next test keeps out
        for module in modules_of(path)
    }
    assert roots - sys.stdlib_module_names <= {"genets", "numpy"}


@pytest.mark.parametrize("module", ["genets", "genets.core.errors", "genets.structure"])
def test_light_imports_stay_light(module):
    heavy = {"torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "onnx", "pydantic"}
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert heavy.isdisjoint(loaded)
