"""Does a teacher help? A small network on digits, trained with and without one, three seeds.

The recipe is `paper` with fewer epochs, a smaller batch and, because there are few steps, a higher
learning rate. The teacher is a wider network, trained equally on the same split of each seed.
Run from the repository: python benchmarks/teacher.py [--seeds 3] [--epochs 30].
Writes results/teacher.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from conditions import write_result
from genets.training import Listener, RunResult, RunSettings, make_recipe, named_recipe
from genets.training.recipe import apply_changes
from genets.training.train_network import train_network

# The winner of a search for half the MasterNet's latency: see results/winner.json.
STUDENT = "Conv3x16s2 XX3x16 XX3x48s2 BL3x48s2r0.25 XX3x32 Conv1x128 @16"
TEACHER = "Conv3x32s2 XX3x64 XX3x96s2*2 XX3x128s2*2 Conv1x256 @16"
SHORTER = {"batch_size": 64, "learning_rate": 0.8, "erase": 0.0, "auto_augment": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    changes = SHORTER | {"epochs": options.epochs}
    with tempfile.TemporaryDirectory(prefix="genets-teacher-") as folder:
        runs = [compare(Path(folder), seed, changes) for seed in range(options.seeds)]
    ahead = [run["with_teacher"]["top1"] - run["alone"]["top1"] for run in runs]
    entropy = [run["with_teacher"]["cross_entropy"] - run["alone"]["cross_entropy"] for run in runs]
    figures = {
        "student": STUDENT,
        "teacher": TEACHER,
        "changes_to_paper": changes,
        "mean_test_top1": {
            who: statistics.mean(run[who]["top1"] for run in runs)
            for who in ("teacher", "alone", "with_teacher")
        },
        "teacher_adds_top1_mean": statistics.mean(ahead),
        "teacher_adds_top1_each": ahead,
        "teacher_adds_cross_entropy_mean": statistics.mean(entropy),
        "runs": runs,
    }
    write_result("teacher", figures)


def compare(folder: Path, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    teacher = train_one(folder / f"teacher-{seed}", TEACHER, seed, changes)
    alone = train_one(folder / f"alone-{seed}", STUDENT, seed, changes)
    taught = train_one(folder / f"taught-{seed}", STUDENT, seed, changes, str(teacher.results))
    scores = {"teacher": teacher, "alone": alone, "with_teacher": taught}
    return {"seed": seed} | {who: result.to_json()["test"] for who, result in scores.items()}


def train_one(
    out: Path, network: str, seed: int, changes: dict[str, Any], teacher: str = ""
) -> RunResult:
    settings = RunSettings(
        network=network,
        data="digits",
        recipe=make_recipe(apply_changes(named_recipe("paper"), changes)),
        recipe_name="paper",
        seed=seed,
        teacher=teacher,
    )
    result = train_network(settings, out, device="cpu", listener=Listener())
    print(f"{out.name}: test top-1 {result.test.top1:.2%}", flush=True)
    return result


if __name__ == "__main__":
    main()
