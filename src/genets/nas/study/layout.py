"""The layout of a study folder: the name of every file, and which files belong to which round.

    .genets             says that genets made the folder (`genets.core.output_folder`)
    format.json         the format version of the folder; a study without it has version 1
    study.toml          all settings; a folder that holds this file is a study
    study.lock          locked while a process uses the study
    study.log           settings, phases, times and warnings of every run
    data.json           classes, split sizes and files of the images
    latency/            for each target a latency table and the networks that were measured; while
                        a table is built, also its finished timings
    master.safetensors  weights of the trained MasterNet
    master.json         its score on the validation split
    trials.sqlite       one row for each trial that ended
    candidates.json     the selected structures, all measured within the budget
    confirmed.json      their scores after training
    confirmed/          their trained weights
    rounds/2/           the last five of these for the second round, and so on
    selected.json       the winner
    winner.safetensors  weights of the trained winner
    results/            the exported network, the result of the search, and its test predictions
    seconds.json        wall time of each phase
    failure.json        why the last run stopped
    grown_from.json     the numbers of trials for each super-block before the study got more

The weights of all rounds are in one folder, `confirmed/`.
"""

from __future__ import annotations

from pathlib import Path

from genets.core.errors import StudyError
from genets.core.resumable import FolderKind

FORMAT_VERSION = 1

SETTINGS = "study.toml"
LOG = "study.log"
TRIALS = "trials.sqlite"
LATENCY = "latency"
ROUNDS = "rounds"
RESULTS = "results"
RANKING = "masternets.json"  # how the MasterNet was chosen; written before the study begins

# JSON files, without their suffix.
FORMAT = "format"
DATA = "data"
MASTER = "master"
CANDIDATES = "candidates"
CONFIRMED = "confirmed"
SELECTED = "selected"
SECONDS = "seconds"
FAILURE = "failure"
GROWN_FROM = "grown_from"
RESULT = f"{RESULTS}/result"
TEST = f"{RESULTS}/test"  # predictions for the test images, by class

MASTER_WEIGHTS = "master.safetensors"
WINNER_WEIGHTS = "winner.safetensors"
# Conclusions from the trials; they are removed when the study gets more trials.
CONCLUSIONS = (
    f"{RESULT}.json",
    f"{TEST}.json",
    WINNER_WEIGHTS,
    f"{SELECTED}.json",
    f"{CANDIDATES}.json",
)

MEASURED = "-measured"

KIND = FolderKind(
    noun="study",
    settings_file=SETTINGS,
    lock_file="study.lock",
    raises=StudyError,
    kept="every finished trial is kept",
    may_precede=(f"{FORMAT}.json", LATENCY, RANKING),
)


def in_round(number: int, name: str) -> str:
    """Give the name of a round's file in the study; the first round has no folder of its own."""
    return name if number == 1 else f"{ROUNDS}/{number}/{name}"


def table_path(latency_folder: Path, target_name: str) -> Path:
    return latency_folder / f"{target_name}.json"


def measured_path(table: Path) -> Path:
    """Give the file of the networks measured on the target of a latency table."""
    return table.with_name(f"{table.stem}{MEASURED}.json")


def visits_path(table: Path) -> Path:
    """Give the file that keeps the timings of a latency table until the table is stored."""
    return table.with_suffix(".visits.jsonl")


def list_tables(latency_folder: Path) -> list[Path]:
    return [p for p in sorted(latency_folder.glob("*.json")) if not p.stem.endswith(MEASURED)]
