"""A full disk at any file of a search is one sentence, and the next run continues."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rounds_lab import ClosedFormLaboratory, search, settings
from small_networks import TWO_XX

from genets.core.errors import BusyDeviceError, StudyError
from genets.core.resumable import ResumableFolder
from genets.data import ImageData
from genets.latency import Measurement, Target
from genets.nas.candidates.export import OnnxCheck, write_network
from genets.nas.selection.measured import MeasuredNetworks
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.structure import Structure

TABLE = "latency/cpu-torch-fp32-b8-t1"


class ExportingLaboratory(ClosedFormLaboratory):
    """Writes the structure and the weights of the winner."""

    def export(self, net: Any, structure: Structure, data: ImageData, folder: Path) -> OnnxCheck:
        write_network(net, structure, data, folder)
        return OnnxCheck(0.0)


def fill_disk(patch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Let one file or folder of a study be written no more."""
    replace, mkdir, path = os.replace, Path.mkdir, folder / name

    def check(target: Path) -> None:
        if Path(target) == path:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))

    def full_replace(source: Path, target: Path) -> None:
        check(target)
        replace(source, target)

    def full_mkdir(target: Path, *args: Any, **words: Any) -> None:
        check(target)
        mkdir(target, *args, **words)

    patch.setattr(os, "replace", full_replace)
    patch.setattr(Path, "mkdir", full_mkdir)


@pytest.mark.parametrize(
    "name",
    [f"{TABLE}.json", f"{TABLE}-measured.json", "folds/1", "confirmed", "results/test.json",
     "results/structure.toml", "results/result.json"],
)  # fmt: skip
def test_a_full_disk_is_one_sentence_and_the_search_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asked = settings(rounds=1, folds=2 if name.startswith("folds") else 1)
    with monkeypatch.context() as patch:
        fill_disk(patch, tmp_path, name)
        with pytest.raises(StudyError, match=r"No space left on device; .*free some space"):
            search(asked, tmp_path, ExportingLaboratory(asked))
    assert "No space left" in (StudyReader(tmp_path).failure() or "")
    result = search(asked, tmp_path, ExportingLaboratory(asked))
    assert result.files["result"].exists()
    assert StudyReader(tmp_path).failure() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BusyDeviceError("busy")])
def test_a_full_disk_does_not_hide_why_measuring_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def stop(structures: Sequence[Structure], times_as_long: int) -> dict[Structure, Measurement]:
        raise error

    path = tmp_path / "measured.json"
    fill_disk(monkeypatch, tmp_path, path.name)
    explanations: list[dict[str, Any]] = [
        {},
        {"explained": ResumableFolder(tmp_path, layout.KIND).explained},
    ]
    for explained in explanations:
        with pytest.raises(type(error)):
            MeasuredNetworks(path, TWO_XX, stop, **explained).measure([TWO_XX])


def test_an_interrupt_keeps_the_measurements_before_it(tmp_path: Path) -> None:
    """The first measurement of the network is disturbed, and the second one is interrupted."""
    attempts = 0

    def measure(structures: Sequence[Structure], times: int) -> dict[Structure, Measurement]:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            raise KeyboardInterrupt
        wide = Measurement(1.0, 0.5, 1.5, 1.0, 1.0, (1.0,), False, {}, "genets-1", Target(), 16)
        return dict.fromkeys(structures, wide)

    with pytest.raises(KeyboardInterrupt):
        MeasuredNetworks(tmp_path / "measured.json", TWO_XX, measure).measure([TWO_XX])
    assert MeasuredNetworks(tmp_path / "measured.json").stored.keys() == {TWO_XX}
