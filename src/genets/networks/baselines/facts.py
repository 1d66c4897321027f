"""The architecture facts of networks that timm does not have, from the JSON files beside this."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def facts(family: str) -> dict[str, dict[str, Any]]:
    """Paper name -> layers, of `dna`, `df` or `ofa`; the file's `conventions` explain them."""
    text = files(__package__).joinpath(f"{family}.json").read_text(encoding="utf-8")
    return {net["paper_name"]: net for net in json.loads(text)["nets"]}
