"""The zoo against the tables of the paper, read here anew from the CSV files."""

import csv
from pathlib import Path

import pytest

from genets.core.errors import StructureError
from genets.structure import Structure, SuperBlock, zoo

TABLES = Path(__file__).parents[1] / "data"


def read_table(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows_to_structure(rows: list[dict[str, str]], resolution: int) -> Structure:
    integers = ("depth", "width", "stride", "kernel")
    stages = [
        SuperBlock(r["type"], ratio=float(r["ratio"]), **{name: int(r[name]) for name in integers})
        for r in rows
    ]
    return Structure(tuple(stages), resolution)


@pytest.mark.parametrize(
    ("network", "resolution", "top1_percent", "parameters_m", "multiply_adds_m"),
    [
        ("light", 192, 75.7, 8.17, 552),
        ("normal", 192, 80.0, 21, 2200),
        ("large", 256, 81.3, 31, 4600),
    ],
)
def test_genets_are_those_of_table_2(
    network, resolution, top1_percent, parameters_m, multiply_adds_m
):
    rows = [row for row in read_table("table2_genets.csv") if row["network"] == network]
    entry = zoo.entry(f"genet_{network}")
    assert entry.structure == rows_to_structure(rows, resolution)
    assert entry.top1_percent == top1_percent
    assert entry.parameters_m == parameters_m
    assert entry.multiply_adds_m == multiply_adds_m


def test_profiling_132_is_that_of_table_5():
    rows = read_table("table5_profilingnet132.csv")
    assert zoo["profiling_132"] == rows_to_structure(rows, 224)
    assert sum(s.depth for s in zoo["profiling_132"].super_blocks) == 41


@pytest.mark.parametrize("row", read_table("table6_manual_networks.csv"), ids=lambda r: r["name"])
def test_manual_networks_are_those_of_table_6(row):
    entry = zoo.entry(row["name"].lower())
    columns = [row[name].split(",") for name in ("blocks", "layers", "channels", "strides")]
    stages = entry.structure.stages
    assert len({len(column) for column in columns} | {len(stages)}) == 1
    last = len(stages) - 1
    for number, (stage, letter, depth, width, stride) in enumerate(
        zip(stages, *columns, strict=True)
    ):
        assert stage.type == {"C": "Conv", "X": "XX", "B": "BL", "D": "DW"}[letter]
        assert (stage.depth, stage.width, stage.stride) == (int(depth), int(width), int(stride))
        assert stage.kernel == {0: 3, last: 1}.get(number, 5)
        assert stage.ratio == {"C": 1, "X": 1, "B": 1 / 4, "D": 6}[letter]
    assert entry.structure.resolution == 224
    assert entry.top1_percent == float(row["top1_percent"])


def test_master_small_suits_small_images():
    master = zoo["master_small"]
    assert {s.type for s in master.super_blocks} == {"XX", "BL", "DW"}
    assert 4 <= len(master.super_blocks) <= 5
    assert 16 <= master.resolution <= 32
    assert master.reduction <= 16


def test_the_zoo_is_a_read_only_mapping():
    assert len(zoo) == len(list(zoo)) == 25
    assert "net20" in zoo
    assert "net21" not in zoo
    assert zoo.get("net21") is None
    assert all(isinstance(structure, Structure) for structure in zoo.values())
    assert not hasattr(zoo, "__setitem__")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("genet_larg", "unknown zoo name 'genet_larg'; did you mean genet_large or genet_light"),
        ("GENet_Large", "unknown zoo name 'GENet_Large'; did you mean genet_large"),
        ("zzz", "unknown zoo name 'zzz'; valid names are genet_large, genet_light, genet_normal,"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(StructureError) as caught:
        zoo[name]
    assert str(caught.value).startswith(message)


def test_every_entry_is_written_in_the_shortest_form():
    for structure in zoo.values():
        assert Structure.parse(str(structure)) == structure
