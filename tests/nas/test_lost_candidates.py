"""MasterNets and candidates whose weights are missing or damaged are trained again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds_lab import ClosedFormLaboratory, search, settings

from genets.core.errors import GenetsError
from genets.nas.candidates.training import make_candidate_job
from genets.nas.context import SearchContext
from genets.nas.result import SearchResult
from genets.nas.study.records import TrainedCandidate
from genets.nas.study.study import Study
from genets.networks import build, save_weights
from genets.networks.weights import read_weights
from genets.structure import Structure

OTHER = Structure.parse("Conv3x8s2 XX3x24s2 DW3x16r3 Conv1x16 @8")


class CountingLaboratory(ClosedFormLaboratory):
    """Counts trainings.

    trained: every candidate that was trained, in order.
    trainings: the number of trainings of MasterNet and winner.
    """

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.trained: list[Structure] = []
        self.trainings = 0
        self.fails = fails

    def train(self, *words: Any, **options: Any) -> None:
        self.trainings += 1
        super().train(*words, **options)

    def train_candidates(
        self, job: Any, groups: Sequence[tuple[Structure, ...]], workers: int
    ) -> Iterator[TrainedCandidate]:
        for trained in super().train_candidates(job, groups, workers):
            self.trained.append(trained.structure)
            if self.fails:
                yield TrainedCandidate(trained.structure, "failed", 1, reason="no memory")
            else:
                yield trained


def candidate_file(folder: Path, structure: Structure) -> Path:
    with Study.open(folder) as study:
        return make_candidate_job(SearchContext(study, 10, workers=1)).weights_path(structure)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "half a file": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "other tensors": lambda path: save_weights(build(OTHER, 10), path, {}),
}


def forget_winner(result: SearchResult) -> None:
    (result.folder / "winner.safetensors").unlink()
    result.files["result"].unlink()


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_winner_is_trained_again_as_a_candidate(tmp_path: Path, damage: str) -> None:
    chosen = settings(rounds=1)
    result = search(chosen, tmp_path)
    winner = tmp_path / "winner.safetensors"
    before, _ = read_weights(winner)
    forget_winner(result)
    path = candidate_file(tmp_path, result.selected.structure)
    DAMAGES[damage](path)
    lab = CountingLaboratory()
    again = search(chosen, tmp_path, lab)
    assert lab.trained == [result.selected.structure]
    assert lab.trainings == 0, "its weights are those of the winner"
    assert again.confirmed == result.confirmed
    after, _ = read_weights(winner)
    assert all(torch.equal(before[name], after[name]) for name in before)
    line = f"candidate {result.selected.structure} is trained again, because its weights are"
    assert line in (tmp_path / "study.log").read_text()


def test_nan_in_a_file_is_damage(tmp_path: Path) -> None:
    chosen = settings(rounds=1)
    result = search(chosen, tmp_path)
    forget_winner(result)
    net = build(result.selected.structure, 10)
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    save_weights(net, candidate_file(tmp_path, result.selected.structure), {})
    lab = CountingLaboratory()
    search(chosen, tmp_path, lab)
    assert lab.trained == [result.selected.structure]


def test_whole_files_are_used(tmp_path: Path) -> None:
    chosen = settings(rounds=1)
    forget_winner(search(chosen, tmp_path))
    lab = CountingLaboratory()
    search(chosen, tmp_path, lab)
    assert (lab.trained, lab.trainings) == ([], 0)


def test_a_damaged_winner_is_made_again(tmp_path: Path) -> None:
    chosen = settings(rounds=1)
    result = search(chosen, tmp_path)
    path = tmp_path / "winner.safetensors"
    before = path.read_bytes()
    path.write_bytes(before[:100])
    lab = CountingLaboratory()
    assert search(chosen, tmp_path, lab).selected == result.selected
    assert path.read_bytes() == before
    assert (lab.trained, lab.trainings) == ([], 0), "the candidate's weights are whole"


@pytest.mark.parametrize("damage", ["missing", "half a file"])
def test_the_master_net_of_a_later_round_is_trained_again(tmp_path: Path, damage: str) -> None:
    result = search(settings(), tmp_path)
    start = result.rounds[1].master
    forget_winner(result)
    for name in ("selected.json", "rounds/2/confirmed.json", "rounds/2/candidates.json"):
        (tmp_path / name).unlink()
    DAMAGES[damage](candidate_file(tmp_path, start))
    lab = CountingLaboratory()
    again = search(settings(), tmp_path, lab)
    assert lab.trained[0] == start
    assert len(set(lab.trained)) == len(lab.trained)
    assert again.selected == result.selected
    assert read_weights(candidate_file(tmp_path, start))


def test_a_candidate_that_fails_then_is_one_sentence(tmp_path: Path) -> None:
    chosen = settings(rounds=1)
    result = search(chosen, tmp_path)
    forget_winner(result)
    candidate_file(tmp_path, result.selected.structure).unlink()
    with pytest.raises(GenetsError, match=r"are missing or damaged, and its training failed: no m"):
        search(chosen, tmp_path, CountingLaboratory(fails=True))
    search(chosen, tmp_path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_master_net_of_the_first_round_is_trained_again(tmp_path: Path, damage: str) -> None:
    chosen = settings(rounds=1)
    result = search(chosen, tmp_path)
    path = tmp_path / "master.safetensors"
    # Cloned, because the tensors are views of the file.
    before = {name: values.clone() for name, values in read_weights(path)[0].items()}
    result.files["result"].unlink()
    DAMAGES[damage](path)
    lab = CountingLaboratory()
    again = search(chosen, tmp_path, lab)
    assert (lab.trained, lab.trainings) == ([], 1)
    assert (again.master, again.winner, again.confirmed) == (
        result.master,
        result.winner,
        result.confirmed,
    )
    after, _ = read_weights(path)
    assert all(torch.equal(before[name], after[name]) for name in before)
    if damage != "missing":
        assert "so the MasterNet is trained again" in (tmp_path / "study.log").read_text()
