"""The reference of the Python API: directives for mkdocstrings, which reads the docstrings."""

from __future__ import annotations

import importlib

from markdown_text import page

FOLDER = "reference/api"

# Title of a page and the public names that it documents. Together they are `genets.__all__`.
MAIN = {
    "search": (
        "Search",
        (
            "search",
            "plan_search",
            "read_status",
            "select",
            "SearchResult",
            "SearchPlan",
            "SearchStatus",
            "SearchSettings",
            "RayCluster",
            "SlurmCluster",
        ),
    ),
    "latency": ("Latency", ("Target", "measure", "Measurement", "Budget", "LatencyTable")),
    "networks": (
        "Networks",
        (
            "build",
            "load",
            "count",
            "export_onnx",
            "fold_batchnorm",
            "register_block",
            "load_blocks",
        ),
    ),
    "structures": ("Structures", ("Structure", "SuperBlock", "Block", "DesignSpace", "zoo")),
    "errors": ("Errors", ("GenetsError",)),
}
# Modules with further names: those of `__all__` that are not on a page above.
MODULES = (
    "genets.structure",
    "genets.networks",
    "genets.networks.baselines",
    "genets.latency",
    "genets.data",
    "genets.training",
    "genets.analysis",
)
# Names of single modules that pages of the documentation use.
OTHERS = (
    "genets.analysis.masters.rank_masters",
    "genets.nas.reselect.select_top",
    "genets.structure.zoo.Zoo",
)
# Names that are also names of a module, which mkdocstrings would show.
PLACES = {"zoo": "genets.structure.zoo.zoo"}
ERRORS = "genets.core.errors"

INTRODUCTION = """
```python
import genets
```

The names on the first five pages belong to `genets` itself. A name is imported from its module when
it is first used, so `import genets` takes a few hundredths of a second.
"""


def api_pages() -> dict[str, str]:
    """Make the pages of the Python API; keys are places on the site."""
    pages = {
        name: page(title, *(_directive(place_of(each)) for each in names))
        for name, (title, names) in MAIN.items()
    }
    pages["errors"] += "\n" + "\n\n".join(_directive(f"{ERRORS}.{name}") for name in error_names())
    pages["more"] = page(
        "More functions",
        "Further functions and classes, by module.",
        *(_module(module) for module in MODULES),
        "## Names of single modules",
        *(_directive(path, level=3) for path in OTHERS),
    )
    lines = [
        f"- [{title}]({name}.md): " + ", ".join(f"`{each}`" for each in names)
        for name, (title, names) in MAIN.items()
    ]
    lines.append("- [More functions](more.md): functions and classes of the modules")
    pages["index"] = page("Python API", INTRODUCTION, "\n".join(lines))
    return {f"{FOLDER}/{name}.md": text for name, text in pages.items()}


def place_of(name: str) -> str:
    """Give the path by which mkdocstrings finds a name of `genets`."""
    return PLACES.get(name, f"genets.{name}")


def _module(module: str) -> str:
    parts = [_directive(f"{module}.{name}", level=3) for name in further_names(module)]
    return "\n\n".join([f"## {module}", *parts])


def _directive(path: str, level: int = 2) -> str:
    """Give the directive of mkdocstrings for one name."""
    return f"::: {path}\n    options:\n      heading_level: {level}"


def further_names(module: str) -> list[str]:
    """Give the public names of a module that no page of `MAIN` has."""
    main = {name for _, names in MAIN.values() for name in names}
    return [name for name in importlib.import_module(module).__all__ if name not in main]


def error_names() -> list[str]:
    """Give the errors that users can cause, but their base, which has an entry of its own."""
    errors = importlib.import_module(ERRORS)
    base = errors.GenetsError
    return [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    ]
