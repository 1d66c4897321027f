"""`genets search --compare-masters`, and `genets --own-blocks`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import fails, invoke
from genets.analysis import masters as master_training
from genets.analysis.masters import MasterScore
from genets.nas import laboratory
from genets.nas import search as nas_search
from genets.networks import own_blocks
from genets.networks.build import BLOCKS
from genets.structure import BLOCK_TYPES, Structure
from genets.training import Score

WIDE = "Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @8"
THIN = "Conv3x8s2 XX3x8s2 XX3x8 Conv1x16 @8"
SEARCH = ("search", "--data", "digits", "--budget", "1x", "--batch-size", 8, "--threads", 1)
BLOCKS_FILE = """
from timm.models.byobnet import RepVggBlock
import genets
genets.register_block("Typed", RepVggBlock)
"""


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The settings that searches were started with, in place of searching."""
    found: list[Any] = []

    def search(settings: Any, out: Path, **options: Any) -> None:
        found.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(nas_search, "run_search", search)
    return found


def test_the_best_becomes_the_master(
    tmp_path: Path, searched: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[str, int]] = []

    def score(name: str, structure: Structure, data: Any, recipe: Any, seed: int, device: str
              ) -> MasterScore:  # fmt: skip
        trained.append((name, seed))
        entropy = 1.0 + structure.stages[1].width / 100 + seed / 1000
        return MasterScore(name, seed, Score(0.5, entropy))

    monkeypatch.setattr(master_training, "_trained", score)
    classes: list[int] = []
    build = laboratory.build_for_timing

    def build_for_timing(structure: Structure, num_classes: int, device: str) -> Any:
        classes.append(num_classes)
        return build(structure, num_classes, device)

    monkeypatch.setattr(laboratory, "build_for_timing", build_for_timing)
    file = tmp_path / "thin.toml"
    Structure.parse(THIN).save(file)
    settings = tmp_path / "quick.toml"
    settings.write_text("measure_seconds = 0.2\n")
    words = (*SEARCH, "--compare-masters", f"{WIDE}, {file}", "--settings", settings, "--seed", 3)
    result = invoke(*words, "--out", tmp_path / "study")
    assert result.exit_code == 130, result.output
    assert trained == [(WIDE, 3), (str(file), 3), (WIDE, 4), (str(file), 4)]
    assert [one.master for one in searched] == [THIN]
    assert "thin.toml" in result.stderr
    assert "1.0835" in result.stderr
    assert "measuring: 100 of 100 in " in result.stderr
    record = json.loads((tmp_path / "study" / "masternets.json").read_text())
    assert len(record["scores"]) == 4
    assert classes == [10, 10], "networks are timed with the classes of the data"

    invoke(*words, "--out", tmp_path / "study")
    assert len(trained) == 4, "what is in the file is not trained again"
    assert searched[1] == searched[0]


def test_one_command_trains_the_masternets_of_a_study(
    tmp_path: Path, searched: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SEARCH, "--compare-masters", f"{WIDE}, {THIN}", "--out", tmp_path / "study")
    refused: list[str] = []

    def train(name: str, structure: Structure, *_: Any) -> MasterScore:
        second = invoke(*words)
        assert second.exit_code == 2
        refused.append(second.stderr)
        raise KeyboardInterrupt

    monkeypatch.setattr(master_training, "_trained", train)
    invoke(*words)
    assert len(refused) == 1
    assert "in use by process" in refused[0]
    assert not searched


def test_a_foreign_folder_is_refused_before_any_training(
    tmp_path: Path, searched: list[Any]
) -> None:
    (tmp_path / "thesis.tex").touch()
    result = invoke(*SEARCH, "--compare-masters", f"{WIDE}, {THIN}", "--out", tmp_path)
    assert result.exit_code == 2
    assert "neither empty nor a study" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--compare-masters", "net1"), "--compare-masters needs at least two structures, such as"),
        (("--compare-masters", ","), "--compare-masters needs at least two structures, such as"),
        (("--compare-masters", "net1,nett2"), "unknown zoo name 'nett2'; did you mean net2"),
        (("--compare-masters", "net1,genet_light"), "need one resolution, not [192, 224]"),
        (
            ("--compare-masters", "net1,net2", "--master", "net3"),
            "--master or --compare-masters, not both",
        ),
        (
            ("--compare-masters", "net1,net2", "--weights", "own.pth"),
            "from scratch, so it takes no starting weights",
        ),
    ],
)
def test_what_cannot_be_chosen_from(
    tmp_path: Path, searched: list[Any], words: tuple[str, ...], message: str
) -> None:
    result = invoke(*SEARCH, *words, "--out", tmp_path / "study")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not searched
    assert not (tmp_path / "study").exists()


def test_own_blocks_are_for_every_command(tmp_path: Path, searched: list[Any]) -> None:
    file = tmp_path / "typed.py"
    file.write_text(BLOCKS_FILE)
    out = ("--out", tmp_path / "study")
    result = invoke(*SEARCH, "--blocks", "Typed3", *out)
    assert result.exit_code == 2
    assert "unknown block type 'Typed'" in result.stderr
    assert "--own-blocks FILE" in result.stderr
    try:
        invoke("--own-blocks", file, *SEARCH, "--blocks", "XX3,Typed3", *out)
        (settings,) = searched
        assert settings.own_blocks == (str(own_blocks.load_blocks(file)),)
    finally:
        BLOCK_TYPES.pop("Typed", None)
        BLOCKS.pop("Typed", None)
        own_blocks._loaded.clear()
    result = invoke("--own-blocks", tmp_path / "none.py", "zoo")
    assert result.exit_code == 2
    assert "cannot read block file" in result.stderr


def test_own_blocks_may_be_in_the_home_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves `~` in `--own-blocks=~/none.py`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    fails(invoke("--own-blocks=~/none.py", "zoo"), f"{tmp_path / 'none.py'}")
