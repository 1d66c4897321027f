"""Mutations of files: damaged and hostile forms of images, weights, TOML, JSON, SQLite and ONNX.

Every function takes a generator and returns other bytes, so a seed gives the same files again. A
mutation damages bytes, or it keeps the format and changes its content: a field of JSON, the header
of a safetensors file, a cell of a database, a field of an ONNX graph.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import re
import sqlite3
import struct
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from fuzzing.hostile_images import HOSTILE_IMAGES, with_checksums

INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LONG_INTEGER = "9" * 5000  # more digits than Python converts
NESTED = "[" * 20_000 + "]" * 20_000
# Values as JSON has them. Some of these tokens cannot be written by the json module.
JSON_TOKENS = (
    "null", "true", "0", "-1", "1e308", "1e400", "NaN", "-Infinity", LONG_INTEGER, "1.5", "[]",
    "{}",
    '""', '"\\ud800"', '"\\u0000"', '"../../../etc/passwd"', '"digits"', '"%s"', NESTED, "[[[]]]",
    '{"a": {"a": 1}}', "9223372036854775808", "99999999999", "1e-320", json.dumps("x" * 100_000),
    '"F8_E4M3"', '"C64"', '"I64"', '"BOOL"', "[0]", "[4294967296, 4294967296]", "[-1]", "[1, 8]",
    '"nan"', '"[1"', '"[null]"', '"[\\"a\\", 0, 1e999]"', '"1000000000000"', '"done"', '"failed"',
)  # fmt: skip
TOML_TOKENS = (
    "nan", "-inf", "-1", "0", "1", "1e400", "99999999999999999999", LONG_INTEGER, '""', "[]",
    "[[]]",
    "{}", "true", "1979-05-27", "[" * 3000 + "]" * 3000, '"../../etc/passwd"', '"digits"', "1.5",
    '"' + "x" * 100_000 + '"', '"\\u0000"', "9223372036854775807", "[1, 2]", "[0.0, 64.0]", "65536",
    "8192", "1000", "64", "'cuda:99'", '"XX"', "0x7fffffff", '"Conv3x8s2 XX3x8 XX3x8 Conv1x8 @8"',
)  # fmt: skip
# The largest values that these keys may have.
LARGEST = {
    "width": "65536", "depth": "1000", "resolution": "8192", "batch_size": "65536", "ratio": "64",
    "epochs": "1000000000", "width_range": "[0.001, 64.0]", "depth_change": "100",
    "resolutions": "[8192]", "stem_width_range": "[0.001, 64.0]", "confirm": "1000000000",
    "trials_per_super_block": "1000000000", "rounds": "10", "seed": "9223372036854775807",
}  # fmt: skip
CELLS = (None, -1, 2**62, 1e308, float("inf"), "", "XX3x8", "Conv3x8s2", b"\xff\xfe", "x" * 100_000)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Damage bytes, more often near the beginning, where most formats have their headers."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        end = len(data) if rng.random() < 0.5 else min(len(data), 512)
        at, length = rng.randrange(end + 1), rng.choice((1, 2, 4, 16, 256, 4096))
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                order, size = rng.choice("<>"), rng.choice("BHIQ")
                value = rng.choice(INTEGERS) & (256 ** struct.calcsize(size) - 1)
                word = struct.pack(order + size, value)
                data[at : at + len(word)] = word
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = rng.randbytes(length)
            case 4:
                data[at:at] = data[at : at + length]
            case 5 if rng.random() < 0.3:
                del data[at:]
    return bytes(data)


def mutate_image(content: bytes, rng: random.Random) -> bytes:
    """Damage an image; the checksums of a PNG file are often made right again."""
    if rng.random() < 0.05:
        return rng.choice(HOSTILE_IMAGES)()
    mutated = mutate_bytes(content, rng)
    return with_checksums(mutated) if rng.random() < 0.5 else mutated


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Change the fields of a JSON document, or damage its bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(content, rng)
    if b"}\n{" in content:  # a file with a document on each line
        lines = content.splitlines()
        number = rng.randrange(len(lines))
        lines[number] = _mutate_document(lines[number], rng)
        return b"\n".join(lines) + b"\n"
    return _mutate_document(content, rng)


def mutate_toml(content: bytes, rng: random.Random) -> bytes:
    """Change the lines of a TOML file, or damage its bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(content, rng)
    lines = content.decode().splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        number = rng.randrange(len(lines)) if lines else 0
        match rng.randrange(5):
            case 0 if lines:
                del lines[number]
            case 1 if lines:
                lines.insert(number, lines[rng.randrange(len(lines))])
            case 2:
                lines.insert(number, f"{rng.choice(('more', 'stage', 'data'))} = {_toml(rng)}")
            case _ if lines:
                key, equals, _ = lines[number].partition("=")
                largest = LARGEST.get(key.strip()) if rng.random() < 0.3 else None
                lines[number] = f"{key}{equals}{largest or _toml(rng)}"
    return "\n".join(lines).encode("utf-8", "replace") + b"\n"


def mutate_weights(content: bytes, rng: random.Random) -> bytes:
    """Change the header or the numbers of a safetensors file, or damage a file of weights."""
    chance = rng.random()
    if chance < 0.1:
        return canary_pickle(rng)
    if chance < 0.4 or content[8:9] != b"{":  # a checkpoint of torch
        return mutate_bytes(content, rng)
    (size,) = struct.unpack("<Q", content[:8])
    header, numbers = content[8 : 8 + size], bytearray(content[8 + size :])
    if chance < 0.6:
        header = _mutate_texts(header, rng)
    elif chance < 0.7:
        at = 4 * rng.randrange(len(numbers) // 4)
        numbers[at : at + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), 1e38)))
    else:
        header = _mutate_document(header, rng)
    return struct.pack("<Q", len(header)) + header + bytes(numbers)


def mutate_database(content: bytes, rng: random.Random) -> bytes:
    """Change the cells or the tables of an SQLite database, or damage its bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(content, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.sqlite"
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as database, suppress(sqlite3.Error):
            _mutate_tables(database, rng)
            database.commit()
        return path.read_bytes()


def mutate_onnx(content: bytes, rng: random.Random) -> bytes:
    """Change the fields of an ONNX graph, or damage its bytes."""
    if rng.random() < 0.4:
        return mutate_bytes(content, rng)
    import onnx

    model = onnx.load_from_string(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        _mutate_message(model, rng)
    return bytes(model.SerializePartialToString())


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "image": mutate_image,
    "weights": mutate_weights,
    "toml": mutate_toml,
    "json": mutate_json,
    "sqlite": mutate_database,
    "onnx": mutate_onnx,
}


def _toml(rng: random.Random) -> str:
    return rng.choice(TOML_TOKENS)


def _mutate_texts(header: bytes, rng: random.Random) -> bytes:
    """Change a text beside the tensors, such as the names of the classes."""
    document = json.loads(header)
    texts = document.get("__metadata__", {})
    name = rng.choice([*texts, "num_classes", "in_channels", "resolution", "network"])
    texts[name] = rng.choice(JSON_TOKENS)
    if rng.random() < 0.2:
        del texts[name]
    return json.dumps(document | {"__metadata__": texts}).encode()


def _mutate_document(text: bytes, rng: random.Random) -> bytes:
    document = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(document))
        if places:
            parent, key = rng.choice(places)
            _mutate_field(parent, key, rng)
    mutated = json.dumps(document)
    # The tokens that the json module cannot write stand as marks until here.
    return re.sub(r'"<token (\d+)>"', lambda m: JSON_TOKENS[int(m[1])], mutated).encode()


def _mutate_field(parent: Any, key: Any, rng: random.Random) -> None:
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("", "more", f"{key} "))] = parent.pop(key)
        case 2 if isinstance(parent, list):
            parent.extend(parent[:1] * rng.choice((1, 1000)))
        case _:
            parent[key] = f"<token {rng.randrange(len(JSON_TOKENS))}>"


def _places(value: Any) -> Any:
    """Every field and item of a document, as (parent, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _mutate_tables(database: sqlite3.Connection, rng: random.Random) -> None:
    columns = [row[1] for row in database.execute("PRAGMA table_info(trials)")]
    match rng.randrange(7):
        case 0:
            database.execute("DROP TABLE trials")
        case 1:
            database.execute(f"ALTER TABLE trials DROP COLUMN {rng.choice(columns)}")
        case 2:
            database.execute("ALTER TABLE trials ADD COLUMN more TEXT")
        case 3:
            database.execute("DROP TABLE trials")
            names = ", ".join(f"n AS {name}" for name in columns)
            endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
            database.execute(f"CREATE VIEW trials AS {endless} SELECT {names} FROM c")
        case 4:
            name = rng.choice(("user_version", "application_id", "schema_version"))
            database.execute(f"PRAGMA {name} = {rng.choice((0, 2, -1))}")
        case _:  # without the types of the columns, every value is accepted
            database.execute("CREATE TABLE loose AS SELECT * FROM trials")
            column, value = rng.choice(columns), rng.choice(CELLS)
            one = "" if rng.random() < 0.3 else "WHERE rowid = 1"
            database.execute(f"UPDATE loose SET {column} = ? {one}", (value,))
            database.execute("DROP TABLE trials")
            database.execute("ALTER TABLE loose RENAME TO trials")


def _mutate_message(message: Any, rng: random.Random) -> None:
    """Change one field of a protobuf message or of a message inside it."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
    if field.message_type is not None and rng.random() < 0.9:
        _mutate_message(rng.choice(value) if repeated else value, rng)
        return
    if repeated and rng.random() < 0.5:
        del value[rng.randrange(len(value))]
        return
    kinds: dict[str, tuple[Any, ...]] = {
        "int": (0, -1, 1, 7, 2**31 - 1, 2**62),
        "float": (0.0, -1.0, float("nan"), float("inf"), 1e38),
        "str": ("", "images", "x" * 1000, "Loop", "../../etc/passwd"),
        "bytes": (b"", b"\xff" * 64),
    }
    item = value[0] if repeated else value
    hostile = rng.choice(kinds.get(type(item).__name__, (None,)))
    with suppress(TypeError, ValueError):  # out of the range of the field
        if hostile is None:
            message.ClearField(field.name)
        elif repeated:
            value[rng.randrange(len(value))] = hostile
        else:
            setattr(message, field.name, hostile)


class Canary:
    """A pickle of this class writes the file `canary` in the working folder when it is loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, ("open('canary', 'w').close()",)


def canary_pickle(rng: random.Random) -> bytes:
    """A file of weights that runs code in a program that unpickles it without a restriction."""
    import torch

    content: Any = {"stem.conv.weight": Canary()} if rng.random() < 0.5 else Canary()
    if rng.random() < 0.3:
        return pickle.dumps(content, rng.randrange(6))
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=rng.random() < 0.7)
    return buffer.getvalue()
