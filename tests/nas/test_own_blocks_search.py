"""A search over block types of the user's own, from end to end."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import genets
from genets.core.errors import BlockFileError, StructureError
from genets.data import ImageData
from genets.latency import LatencyTable, Measurement, Target
from genets.latency.environment import describe_environment
from genets.latency.export import SCRIPT_FILE
from genets.latency.predictor.storage import TableSettings
from genets.nas.candidates.export import OnnxCheck, write_network
from genets.nas.laboratory import Laboratory
from genets.nas.search import run_search
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.reader import load_settings
from genets.nas.study.study import Study
from genets.nas.trials.runner import TrialJob, TrialRunner
from genets.nas.workers.files import write_inputs
from genets.networks import own_blocks, save_weights
from genets.networks.build import BLOCKS
from genets.structure import BLOCK_TYPES, Block, DesignSpace, Structure, zoo
from genets.training import Recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS: dict[str, Any] = {
    "data": "digits",
    "budget": "5x",
    "master": "Conv3x8s2 RepVGG3x8s2 MobileOne3x16 Conv1x16 @8",
    # One width: a space of 36 structures, so that a latency table is quickly made.
    "space": {"blocks": ["RepVGG3", "ExtraDW3r2"], "depth_change": 1, "width_range": [1, 1]},
    "target": {"batch_size": 8, "threads": 1},
    "trials_per_super_block": 2,
    "controls_per_super_block": 1,
    "table_seconds": 0.5,
    "screen": 2,
    "measure_seconds": 0.3,
    "master_training": {"epochs": 8, "learning_rate": 1.2},
    "trial_training": {"epochs": 1, "feature_steps": 1},
    "final_training": {"epochs": 1, "warmup_epochs": 0},
}


@pytest.fixture(autouse=True)
def _no_types_from_elsewhere() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """As in a new process: the paper's types alone."""
    for name in [name for name, kind in BLOCK_TYPES.items() if kind.layers_at is not None]:
        del BLOCK_TYPES[name], BLOCKS[name]
    own_blocks._loaded.clear()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(EXAMPLES / n, tmp_path)) for n in ("rep_blocks.py", "uib_blocks.py")]


class CalmLaboratory(Laboratory):
    """Times for real, and takes each latency as that of a calm device."""

    def measure(self, *arguments: Any, relative: bool = False) -> dict[Structure, Measurement]:
        return {
            structure: replace(
                m, low_ms_per_image=m.ms_per_image, high_ms_per_image=m.ms_per_image,
                disturbed=False, ratio=None,
            )
            for structure, m in super().measure(*arguments).items()
        }  # fmt: skip


class ResumedLaboratory(CalmLaboratory):
    """Writes no second ONNX file, which would take as long as the rest."""

    def export(
        self, net: nn.Module, structure: Structure, data: ImageData, folder: Path
    ) -> OnnxCheck:
        write_network(net, structure, data, folder)
        return OnnxCheck(0.0)


def test_search_resume_and_load(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LatencyTable, "build", partial(LatencyTable.build, held_out=3))
    out = tmp_path / "study"
    asked = SearchSettings(**SETTINGS, own_blocks=files)
    result = run_search(asked, out, workers=1, lab=CalmLaboratory())
    assert result.screened == 2
    structure = result.selected.structure
    used = {stage.type for stage in structure.super_blocks}
    assert used <= {"RepVGG", "MobileOne", "ExtraDW"}
    assert all((out / file.name).read_bytes() == file.read_bytes() for file in files)

    forget()
    with pytest.raises(StructureError, match="of your own with genets --own-blocks FILE"):
        genets.load(out / "results")
    copies = set((out / "results").glob("*.py")) - {out / "results" / SCRIPT_FILE}
    for copy in copies:
        genets.load_blocks(copy)
    network = genets.load(out / "results")
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 10)

    forget()
    again_settings = load_settings(out)
    again = run_search(again_settings, out, lab=ResumedLaboratory())
    assert again.selected.structure == structure

    forget()
    files[0].write_text(files[0].read_text() + "\n# edited")
    with pytest.raises(BlockFileError, match="has changed since the study began"):
        load_settings(out)
    files[0].unlink()
    with pytest.raises(BlockFileError, match="cannot read block file"):
        load_settings(out)
    shutil.copy(out / "rep_blocks.py", files[0])
    assert load_settings(out).own_blocks == again_settings.own_blocks


def test_settings_name_the_files_of_the_types_in_use(files: list[Path]) -> None:
    for file in files:
        genets.load_blocks(file)
    settings = SearchSettings(**SETTINGS)
    assert [text.partition("#")[0] for text in settings.own_blocks] == list(map(str, files))
    assert SearchSettings.from_toml(settings.to_toml()) == settings
    of_paper = SETTINGS | {"master": "master_small", "space": {"blocks": ["XX3", "RepVGG3"]}}
    assert len(SearchSettings(**of_paper).own_blocks) == 1
    assert not SearchSettings(data="digits", budget="1x").own_blocks


def test_a_study_of_other_blocks_is_refused(tmp_path: Path, files: list[Path]) -> None:
    with Study.create_or_resume(tmp_path / "s", SearchSettings(**SETTINGS, own_blocks=files)):
        pass
    files[0].write_text(files[0].read_text() + "\n# edited")
    forget()
    with pytest.raises(BlockFileError, match="has changed since the study began"):
        Study.create_or_resume(tmp_path / "s", SearchSettings(**SETTINGS, own_blocks=files))


def test_a_worker_process_learns_the_types_from_its_job(tmp_path: Path, files: list[Path]) -> None:
    settings = SearchSettings(**SETTINGS, own_blocks=files)
    weights = tmp_path / "master.safetensors"
    save_weights(genets.build(settings.structure, 10), weights, {})
    recipe = Recipe(epochs=1, batch_size=64, warmup_epochs=0)
    job = TrialJob(
        master=settings.structure,
        master_weights=weights,
        data="digits",
        recipe=recipe,
        thaw="after",
        seed=0,
        own_blocks=settings.own_blocks,
    )
    sent = pickle.dumps(job)
    forget()
    runner = TrialRunner(pickle.loads(sent))
    assert isinstance(runner.job.master, Structure)
    assert {"RepVGG", "ConvNext"} <= BLOCK_TYPES.keys()
    # A worker on another machine sees neither the block files nor the weights.
    contents = job.inputs([])
    assert contents.keys() == {*files, weights}
    forget()
    for path in contents:
        path.unlink()
    moved = pickle.loads(sent).elsewhere(tmp_path / "scratch")  # before the files are written
    write_inputs(tmp_path / "scratch", contents)
    TrialRunner(moved)
    assert {"RepVGG", "ConvNext"} <= BLOCK_TYPES.keys()


def test_a_latency_table_is_refused_after_a_block_file_was_edited(files: list[Path]) -> None:
    file, target = genets.load_blocks(files[0]), Target(threads=1)
    blocks = (Block("RepVGG", 3, 1.0), Block("XX", 3, 1.0))
    space = DesignSpace(blocks=blocks).around(zoo["master_small"])
    assert own_blocks.block_digests(space) == {"RepVGG": file.digest}
    environment = describe_environment(target) | {"own_blocks": {"RepVGG": file.digest}}
    table: Any = SimpleNamespace(
        space=space, target=target, num_classes=10, environment=environment
    )
    expected = TableSettings(space, target, 10)
    assert list(expected.differences(table)) == []
    environment["own_blocks"] = {"RepVGG": 64 * "0"}
    (difference,) = expected.differences(table)
    assert difference == (
        f"content of the file of RepVGG 000000000000 in the table, {file.digest[:12]} here"
    )
    del environment["own_blocks"]  # an older table
    assert list(expected.differences(table)) == []
