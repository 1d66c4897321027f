"""The reference of the settings, made from the models that check them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from genets.cli.setting_options import SETTINGS, option_name
from genets.latency.target import Target
from genets.nas.settings.defaults import DEFAULTS_IN_WORDS
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import format_toml_tables
from genets.nas.settings.training import RECIPE
from markdown_text import cell, code, page, table

INTRODUCTION = """
A search reads its settings from several places. A later place in this list overrides an earlier
place:

1. the defaults on this page
2. [settings that follow from the images](../search/settings.md#without-a-preset), in a new study
3. the settings of the study, if the search continues a study
4. `--preset NAME`
5. `--settings FILE.toml`
6. options of the command

A settings file is TOML and contains only the settings that differ:

```toml
budget = "0.5x"
trials_per_super_block = 20

[space]
blocks = ["XX3", "BL3r0.25", "DW3r6"]

[target]
device = "cuda"
precision = "fp16"
```

```bash
genets search --data photos/ --settings mine.toml --out runs/mine
```

A setting with an option can also be given on the command line. The study stores all settings in
`study.toml`. A wrong name or value ends in one sentence that names the setting.
"""


OUTSIDE = """These settings stand at the top of a settings file. `resolution` may stand there, too:
it is the input size of the MasterNet in pixels."""
RECIPE_TEXT = """ The table may begin with `recipe = "NAME"`: it then takes all fields of this
[recipe](../training.md#recipes), and the other fields of the table change the recipe."""


def settings_page() -> str:
    """Make the page of all settings of a search, with the presets."""
    names = {key: option_name(key) for keys in SETTINGS.values() for key in keys}
    names |= {f"target.{field.name}": field.name for field in dataclasses.fields(Target)}
    options = {key: f"`--{name.replace('_', '-')}`" for key, name in names.items()}
    presets = [
        f"### `{name}`\n\n" + (f"```toml\n{_toml(preset)}```" if preset else "The defaults above.")
        for name, preset in PRESETS.items()
    ]
    return page(
        "Settings",
        INTRODUCTION,
        *(_section(name, model, options) for name, model in tables()),
        "## Presets\n\nA preset is a set of settings to start from. [How a search works]"
        "(../search/settings.md#presets) says which preset suits which data.",
        *presets,
    )


def _section(name: str, model: Any, options: Mapping[str, str]) -> str:
    """Make the section of one table of a settings file."""
    title = f"## Table `[{name}]`" if name else "## Settings outside a table"
    text = str(SearchSettings.model_fields[name].description) if name else OUTSIDE
    if RECIPE in getattr(model, "other_names", ()):
        text += RECIPE_TEXT
    rows = []
    for field, default, meaning in fields_of(model, name):
        option = options.get(f"{name}.{field}" if name else field, "")
        rows.append((code(field), cell(default), option, cell(meaning)))
    return f"{title}\n\n{text}\n\n" + table(("setting", "default", "option", "meaning"), rows)


def tables() -> list[tuple[str, Any]]:
    """Give the tables of a settings file with their models; the first has no name."""
    nested = [
        (name, info.annotation)
        for name, info in SearchSettings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
    ]
    return [("", SearchSettings), ("target", Target), *nested]


def fields_of(model: Any, name: str) -> list[tuple[str, str, str]]:
    """Give name, default and meaning of each field, without those that are tables."""
    if dataclasses.is_dataclass(model):
        meanings = argument_texts(inspect.getdoc(model) or "")
        return [(f.name, _text(f.default), meanings[f.name]) for f in dataclasses.fields(model)]
    others = {each for each, _ in tables()}
    default = SearchSettings.model_fields[name].default if name else None
    rows = []
    for field, info in model.model_fields.items():
        if name or field not in others:
            value = getattr(default, field) if name else info.default
            text = "none; a new study needs it" if info.is_required() else _text(value)
            text = text if name else DEFAULTS_IN_WORDS.get(field, text)
            rows.append((field, text, str(info.description)))
    return rows


def argument_texts(docstring: str) -> dict[str, str]:
    """Read the texts of the section Args of a Google-style docstring."""
    section = docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
    return {
        name: " ".join(text.split())
        for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    }


def _text(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _toml(preset: Mapping[str, Any]) -> str:
    plain: dict[str, Any] = json.loads(json.dumps(preset))
    return format_toml_tables(plain)
