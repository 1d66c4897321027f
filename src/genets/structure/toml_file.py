"""The TOML form of structures: `resolution`, then one `[[stage]]` table per stage."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from genets.core.errors import StructureError, shown, unknown_name
from genets.structure.block import SuperBlock, format_ratio

Made = TypeVar("Made")
Make = Callable[[tuple[SuperBlock, ...], int], Made]

_REQUIRED = {f.name: f.default is MISSING for f in fields(SuperBlock)}
_MAX_BYTES = 1 << 20  # a structure has some hundred bytes, so a larger file is something else
_STAGE = re.compile(r"^[ \t]*(?:\[\[[ \t]*stage[ \t]*\]\]|stage[ \t]*=)", re.MULTILINE)
_HUGE_INTEGER = re.compile(r"[0-9][0-9_]{4000,}")
_TOML_SPOT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def format_toml(stages: Sequence[SuperBlock], resolution: int) -> str:
    """Write a structure as TOML text; see `Structure.to_toml`."""
    tables = (
        f'[[stage]]\ntype = "{s.type}"\ndepth = {s.depth}\nwidth = {s.width}\n'
        f"stride = {s.stride}\nkernel = {s.kernel}\nratio = {format_ratio(s.ratio)}\n"
        for s in stages
    )
    return "\n".join((f"resolution = {resolution}\n", *tables))


def read_toml_file(path: str | Path, make: Make[Made]) -> Made:
    """Read a TOML structure file; see `Structure.load`. `make` is as for `read_toml`."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise StructureError(f"cannot read structure file {shown(str(path))}: {reason}") from error
    if len(data) > _MAX_BYTES:
        raise StructureError(
            f"{path} is not a structure file: it is larger than {_MAX_BYTES} bytes"
        )
    try:
        return read_toml(data.decode("utf-8-sig"), make)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise StructureError(f"{path}, line {line}: this is not UTF-8 text") from error
    except StructureError as error:
        raise StructureError(
            f"{path}, {error}", field=error.field, stage=error.stage, position=error.position
        ) from None


def read_toml(text: str, make: Make[Made]) -> Made:
    """Read the TOML form of a structure; see `Structure.parse_toml`.

    Args:
        text: The TOML text.
        make: Makes the result from the stages and the resolution. A StructureError that it
            raises gets the line of its stage in the text.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        raise StructureError("line 1: the TOML is nested too deeply", position=1) from None
    except tomllib.TOMLDecodeError as error:
        raise _invalid_toml(text, str(error)) from None
    except ValueError:  # int() refuses to read more than 4300 digits
        huge = _HUGE_INTEGER.search(text)
        position = huge.start() + 1 if huge else 1
        line = _line(text, position)
        raise StructureError(f"line {line}: an integer is too long", position=position) from None
    try:
        return _from_document(document, make)
    except StructureError as error:
        raise _located(text, error) from None


def _from_document(document: dict[str, Any], make: Make[Made]) -> Made:
    _check_keys("key", document, {"resolution": True, "stage": True})
    tables = document["stage"]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise StructureError(
            "stage must be written as tables [[stage]], one per stage", field="stage"
        )
    stages = []
    for number, table in enumerate(tables, start=1):
        try:
            _check_keys("field", table, _REQUIRED)
            stages.append(SuperBlock(**table))
        except StructureError as error:
            raise StructureError(
                f"stage {number}: {error}", field=error.field, stage=number
            ) from None
    return make(tuple(stages), document["resolution"])


def _check_keys(kind: str, table: dict[str, Any], required: dict[str, bool]) -> None:
    for key in table:
        if key not in required:
            raise StructureError(unknown_name(kind, key, required), field=key)
    for key, needed in required.items():
        if needed and key not in table:
            raise StructureError(f"{key} is missing", field=key)


def _invalid_toml(text: str, reason: str) -> StructureError:
    spot = _TOML_SPOT.search(reason)
    position = len(text)
    if spot and spot.group(1):
        lines = text.split("\n")[: int(spot.group(1)) - 1]
        position = sum(len(line) + 1 for line in lines) + int(spot.group(2))
        reason = reason.removesuffix(spot.group())
    position = max(1, min(position, len(text)))
    message = f"this is not TOML: {reason[0].lower()}{reason[1:]}"
    return StructureError(f"line {_line(text, position)}: {message}", position=position)


def _located(text: str, error: StructureError) -> StructureError:
    """The same error with its line, which is searched because tomllib gives no lines of values."""
    start, end = 0, len(text)
    stages = [match.start() for match in _STAGE.finditer(text)]
    if error.stage is not None and stages:
        number = min(error.stage, len(stages))
        start, end = (*stages, len(text))[number - 1 : number + 1]
    key = re.compile(rf"^[ \t]*{re.escape(error.field or 'stage')}[ \t]*=", re.MULTILINE)
    match = key.search(text, start, end)
    position = 1 + (match.start() if match else start)
    return StructureError(
        f"line {_line(text, position)}: {error}",
        field=error.field,
        stage=error.stage,
        position=position,
    )


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position - 1) + 1
