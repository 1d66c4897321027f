"""Readers of settings that users give in several forms, such as a name, a file or a text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genets.core.errors import SettingsError, shown
from genets.latency.budget import Budget
from genets.latency.target import Target
from genets.nas.settings.space import SpaceSettings
from genets.structure import BLOCK_TYPES, Structure, zoo

TIMM_PREFIX = "timm:"
MAX_BUDGETS = 16  # candidates and a winner are trained for each budget


def _budget_texts(value: Any) -> list[Any]:
    if isinstance(value, str):
        return value.split(",") if value.strip() else []
    if isinstance(value, list | tuple):
        return list(value)
    raise SettingsError(f"budgets must be a list such as 0.8x,0.5x, not {shown(value)}")


def read_budgets(value: Any) -> tuple[str, ...]:
    """Read several budgets from a list, or from a text such as `0.8x,0.5x`. Raises GenetsError."""
    texts = _budget_texts(value)
    if not texts:
        raise SettingsError("budgets must name at least one budget, such as 0.8x,0.5x")
    if len(texts) > MAX_BUDGETS:
        raise SettingsError(
            f"budgets must be at most {MAX_BUDGETS}, because networks are trained for each budget, "
            f"not {len(texts)}"
        )
    by_value: dict[str, str] = {}
    for text in texts:
        value = str(Budget.parse(text))
        if value in by_value:
            raise SettingsError(
                f"budgets must name each budget once, not {by_value[value]} and {text.strip()}"
            )
        by_value[value] = text.strip()
    return tuple(by_value.values())


def read_structure(text: Any) -> str:
    """Return the notation of a structure, a zoo name, a structure file or a notation."""
    if isinstance(text, Structure):
        return str(text)
    if not isinstance(text, str):
        raise SettingsError(f"master must be a name, a file or a notation, not {shown(text)}")
    if "@" in text or any(character.isspace() for character in text):
        return str(Structure.parse(text))
    if text.startswith(TIMM_PREFIX):
        raise SettingsError(
            f"master must be a structure of genets (`genets zoo` lists names), not {text!r}, "
            f"because a search changes structures of genets only; --rivals {text} compares this "
            "network with the winner"
        )
    if "/" in text and not text.endswith(".toml"):
        raise SettingsError(f"there is no results folder {text!r}")
    return str(Structure.load(text) if text.endswith(".toml") else zoo[text])


def take_results_folder(values: dict[str, Any]) -> None:
    """Take structure and weights from a results folder that is given as MasterNet."""
    master = values.get("master")
    if not isinstance(master, str) or master in zoo or not os.path.isdir(master):
        return
    from genets.networks.source import read_start
    from genets.networks.weights import STRUCTURE_FILE

    network, weights = read_start(Path(master))
    if values.get("pretrained") or values.get("weights") not in (None, "", weights):
        raise SettingsError(
            f"{master} is a results folder, which has its own weights; leave pretrained and "
            "weights out"
        )
    if not (Path(master) / STRUCTURE_FILE).is_file():
        raise SettingsError(
            f"{master} holds {network}, and a search changes structures only; take the results "
            "folder of a network with a structure"
        )
    values |= {"master": network, "weights": weights}


def own_types(master: Structure, space: SpaceSettings) -> list[str]:
    """The block types of the user's own in a MasterNet and a search space."""
    types = [stage.type for stage in master.stages]
    types += [block.type for block in space.design_space().blocks]
    return [name for name in types if BLOCK_TYPES[name].layers_at is not None]


def read_block_files(files: Any) -> tuple[str, ...]:
    """Register the block types of the files; the result names each file and its content."""
    from genets.networks import load_blocks

    paths = [files] if isinstance(files, str | Path) else files
    if not isinstance(paths, list | tuple) or not all(isinstance(p, str | Path) for p in paths):
        raise SettingsError(f"own_blocks must be a list of files, not {shown(files)}")
    return tuple(str(load_blocks(path)) for path in paths)


def read_target(value: Any) -> Any:
    """Read a target from its record; other values are returned as they are."""
    target = Target.from_json(value) if isinstance(value, Mapping) else value
    # The number of threads is part of the meaning of a latency, so the study records it.
    return target.resolved() if isinstance(target, Target) else target
