"""Layers of the package: an upper layer imports lower layers only, and no layer has a circle."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import genets

PACKAGE = Path(genets.__file__).parent
LEVELS = (  # from the top; layers on one level do not import each other
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
# The first folders of `nas`: each imports, of `nas`, the folders before it alone.
FIRST_OF_NAS = ("settings", "study", "accuracy")
# Sizes of the import circles that a layer may have. A circle may only shrink: change its size here.
ALLOWED_CIRCLES: dict[str, list[int]] = {}


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Absolute names of all imports of `source`, a module of `package`; functions included."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parents = package.split(".")[: 1 - level or None] if level else []
                base = ".".join([*parents, *([module] if module else [])])
                # `from genets import nas` imports the layer, not a name of the package
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module")
                | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def violations(layer: str, modules: Iterator[str]) -> list[str]:
    """The modules that a module of `layer` may not import."""
    wrong = []
    for module in modules:
        root, _, rest = module.partition(".")
        if root != "genets":
            continue
        target = rest.partition(".")[0]
        if layer == "cli" and rest == "__version__":  # a constant, defined there only
            continue
        lower = target in LEVEL and LEVEL[target] > LEVEL[layer]
        if target != layer and not lower:
            wrong.append(module)
    return wrong


def list_imports(path: Path) -> Iterator[str]:
    parts = path.relative_to(PACKAGE.parent).parts[:-1]
    return imported_modules(path.read_text(encoding="utf-8"), ".".join(parts))


SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).stem]


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    layer = layer_of(path)
    if layer in ABOVE_ALL:
        return
    assert layer in LEVEL, f"{layer} is not a layer of the design; give the layer a level here"
    assert violations(layer, list_imports(path)) == []


@pytest.mark.parametrize(
    ("layer", "source", "expected"),
    [
        ("nas", "from genets.training import train", []),
        ("nas", "from genets.nas import trial", []),
        ("nas", "import torch, numpy.random", []),
        ("structure", "import genets.networks", ["genets.networks"]),
        ("structure", "from genets import zoo", ["genets.zoo"]),
        ("cli", "from genets import __version__", []),
        ("nas", "from genets import __version__", ["genets.__version__"]),
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
def test_the_rule_of_imports(layer, source, expected):
    assert violations(layer, imported_modules(source, f"genets.{layer}")) == expected


@pytest.mark.parametrize("folder", FIRST_OF_NAS)
def test_the_first_folders_of_a_search_import_earlier_ones_alone(folder: str) -> None:
    imported = {
        module.split(".")[2]
        for path in (PACKAGE / "nas" / folder).rglob("*.py")
        for module in list_imports(path)
        if module.startswith("genets.nas.")
    }
    assert folder in imported
    assert imported <= {*FIRST_OF_NAS[: FIRST_OF_NAS.index(folder) + 1]}


def test_structure_imports_no_torch():
    roots = {
        module.partition(".")[0]
        for path in SOURCES
        if layer_of(path) in {"structure", "core"}
        and path != PACKAGE / "core" / "validation.py"  # pydantic, which the next test keeps out
        for module in list_imports(path)
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


def without_type_checking(source: str) -> str:
    """`source` without the bodies of `if TYPE_CHECKING:`, which never run."""

    class Remover(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            self.generic_visit(node)
            skipped = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
            return (node.orelse or ast.Pass()) if skipped else node

    return ast.unparse(ast.fix_missing_locations(Remover().visit(ast.parse(source))))


def import_circles(sources: dict[str, str]) -> list[set[str]]:
    """Modules that import each other, directly or through others, largest circle first.

    sources: the source by the module's name; a package is named `genets.nas.__init__`. Imports
    inside functions count. `from genets.nas import study` imports the module `genets.nas.study`
    where it exists, else the package `genets.nas`.
    """
    names = list(sources)
    arrows = np.zeros((len(names), len(names)))
    for name, source in sources.items():
        text = without_type_checking(source)
        for module in imported_modules(text, name.rpartition(".")[0]):
            parent = module.rpartition(".")[0]
            candidates = (module, f"{module}.__init__", parent, f"{parent}.__init__")
            target = next((c for c in candidates if c in sources), name)
            arrows[names.index(name), names.index(target)] = 1
    _, labels = connected_components(csr_array(arrows), connection="strong")
    circles = [
        {name for name, own in zip(names, labels, strict=True) if own == label}
        for label, count in Counter(labels.tolist()).items()
        if count > 1
    ]
    return sorted(circles, key=len, reverse=True)


def list_sources(layer: str) -> dict[str, str]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path.read_text("utf-8")
        for path in SOURCES
        if layer_of(path) == layer
    }


@pytest.mark.parametrize("layer", sorted({layer_of(path) for path in SOURCES} - ABOVE_ALL))
def test_no_new_import_circles_inside_a_layer(layer: str) -> None:
    circles = import_circles(list_sources(layer))
    lengths = [len(circle) for circle in circles]
    shown = "\n".join(f"circle of {len(c)} files: {', '.join(sorted(c))}" for c in circles)
    assert lengths == ALLOWED_CIRCLES.get(layer, []), (
        f"layer {layer} has other import circles than ALLOWED_CIRCLES:\n{shown or 'none'}"
    )


def test_allowed_circles_are_in_layers_that_exist() -> None:
    assert set(ALLOWED_CIRCLES) <= {layer_of(path) for path in SOURCES}


LAZY = "def f():\n    from genets.nas.b import g"
TYPES_ONLY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from genets.nas.b import B"


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"a": "import genets.nas.b", "b": "import genets.nas.c", "c": ""}, []),
        ({"a": "import genets.nas.b", "b": "import genets.nas.a"}, [{"a", "b"}]),
        ({"a": "from genets.nas.b import g", "b": "from .a import f"}, [{"a", "b"}]),
        ({"a": "from genets.nas import b", "b": "from genets.nas import a"}, [{"a", "b"}]),
        ({"a": LAZY, "b": "from . import a"}, [{"a", "b"}]),
        ({"a": TYPES_ONLY, "b": "from . import a"}, []),
        ({"a": TYPES_ONLY + "\nelse:\n    from . import b", "b": "from . import a"}, [{"a", "b"}]),
        ({"__init__": "from .a import f", "a": "from genets.nas import f"}, [{"__init__", "a"}]),
        ({"__init__": "from .a import f", "a": "from . import b", "b": ""}, []),
        ({"__init__": "from .a import f", "a": "import genets.nas"}, [{"__init__", "a"}]),
        ({"a": "from .b import x", "b": "from .c import x", "c": "from .a import x",
          "d": "from .e import x", "e": "from .d import x"}, [{"a", "b", "c"}, {"d", "e"}]),
    ],
)  # fmt: skip
def test_circles_are_found(sources: dict[str, str], expected: list[set[str]]) -> None:
    circles = import_circles({f"genets.nas.{name}": text for name, text in sources.items()})
    assert circles == [{f"genets.nas.{name}" for name in circle} for circle in expected]
