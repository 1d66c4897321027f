"""The layout of a study folder: the name of every file, and which files belong to which round.

    .genets             says that genets made the folder (`genets.core.output_folder`)
    format.json         the format version of the folder; a study without it has version 1
    study.toml          all settings; a folder that holds this file is a study
    study.lock          locked while a process uses the study
    masternets.json     how the MasterNet was chosen, if several were compared
    study.log           settings, phases, times and warnings of every run
    data.json           classes, split sizes and files of the images
    start.json          the preprocessing that belongs to the starting weights of the MasterNet
    short_trainings.json  the recipe fields that short trainings decided, and their scores
    latency/            for each target a latency table and the networks and rivals that were
                        measured; while a table is built, also its finished timings
    latency/sources/    the latency tables of faster engines, from which other tables are made
    master.safetensors  weights of the trained MasterNet
    master.json         its score on the validation split
    trials.sqlite       one row for each trial that ended
    trials/             weights of the super-blocks of the trials, which candidates inherit
    screened.json       the structures that were trained for a short time, and their scores
    candidates.json     the selected structures, all measured within the budget
    confirmed.json      their scores after training
    confirmed/          their trained weights
    folds/1/            with cross-validation: weights of the MasterNet and of the trials of the
                        first fold, and so on
    rounds/2/           the files of a MasterNet, its trials and candidates for the second round,
                        and so on
    selected.json       the winner
    winner.safetensors  weights of the trained winner
    checkpoints/        the state of the training of MasterNet or winner that runs now; that of a
                        candidate is in confirmed/
    results/            the exported network, the result of the search, and its test predictions
    results_before/14/  a copy of `results/` of 14 trials for each super-block, before the study got
                        more
    rivals/NAME/        the training of a rival, as `genets train` has it
    rivals/NAME.json    its score and its predictions for the test images, when its training ends
    seconds.json        wall time of each phase
    slurm/              files that a search and its tasks on SLURM exchange; removed at its end
    failure.json        why the last run stopped
    run.json            the phase of the last run, and the time of its last update
    faults.json         lost workers and machines, and trainings that ran again, in all runs
    grown_from.json     the numbers of trials for each super-block before the study got more

The weights of all rounds are in one folder, `confirmed/`.

A study of several budgets has further folders for each budget, such as 0.5x:

    budgets/0.5x/       screened.json, candidates.json, confirmed.json, selected.json and
                        winner.safetensors, and refused.json: why no structure meets the budget,
                        where none does
    results/0.5x/       the files of `results/` in a study of one budget

Then `results/` itself holds one file, result.json, with the results of all budgets. The weights of
the candidates of all budgets are in `confirmed/`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from genets.core.errors import StudyError
from genets.core.resumable import FolderKind

FORMAT_VERSION = 1

SETTINGS = "study.toml"
LOG = "study.log"
TRIALS = "trials.sqlite"
TRIAL_WEIGHTS = "trials"
LATENCY = "latency"
ROUNDS = "rounds"
FOLDS = "folds"
BUDGETS = "budgets"
RESULTS = "results"
RESULTS_BEFORE = "results_before"
RIVALS = "rivals"
SLURM = "slurm"
CHECKPOINTS = "checkpoints"
CANDIDATE_CHECKPOINTS = ".checkpoints"  # the suffix of the folders in that of the candidates
RANKING = "masternets.json"  # how the MasterNet was chosen; written before the study begins

# JSON files, without their suffix.
FORMAT = "format"
DATA = "data"
START = "start"
SHORT_TRAININGS = "short_trainings"
MASTER = "master"
CANDIDATES = "candidates"
CONFIRMED = "confirmed"
SCREENED = "screened"
SELECTED = "selected"
REFUSED = "refused"  # why one of several budgets was refused
SECONDS = "seconds"
FAILURE = "failure"
RUN = "run"
FAULTS = "faults"
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

# The files that a study of several budgets has for each budget, beside those in `results/`.
OF_BUDGET = (f"{SCREENED}.json", f"{CANDIDATES}.json", f"{CONFIRMED}.json", f"{SELECTED}.json",
             f"{REFUSED}.json", WINNER_WEIGHTS)  # fmt: skip

MEASURED = "-measured"
SOURCES = "sources"  # in the folder of the latency tables
MAX_WORD = 40  # characters of a rival's name in the name of its folder

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


def in_fold(path: Path, number: int) -> Path:
    """Give the path of a fold's file, from that of the whole training split.

    number: The number of the fold, from 0; its folder counts from 1.
    """
    return path.parent / FOLDS / str(number + 1) / path.name


def budget_folder(budget: str) -> str:
    """Give the folder name of one of several budgets: its text with portable characters."""
    name = "".join(budget.split()).replace("µ", "u").removeprefix("+")
    return f"0{name}" if name.startswith(".") else name  # a dot would hide the folder


def at_budget(budget: str, name: str) -> str:
    """Give the name of a file in the study, for one of several budgets.

    Args:
        budget: The budget; an empty text stands for a study of one budget.
        name: The name of the file in a study of one budget. A file that budgets share has this
            name in every study.
    """
    folder, _, file = name.rpartition("/")
    if budget and folder == RESULTS:
        return f"{RESULTS}/{budget_folder(budget)}/{file}"
    if budget and name in OF_BUDGET:
        return f"{BUDGETS}/{budget_folder(budget)}/{name}"
    return name


def table_path(latency_folder: Path, target_name: str) -> Path:
    return latency_folder / f"{target_name}.json"


def measured_path(table: Path) -> Path:
    """Give the file of the networks measured on the target of a latency table."""
    return table.with_name(f"{table.stem}{MEASURED}.json")


def measured_rivals_path(table: Path) -> Path:
    """Give the file of the rivals measured on the target of a latency table."""
    return table.with_name(f"{table.stem}-{RIVALS}{MEASURED}.json")


def rival_path(name: str, resolution: int | None = None) -> str:
    """Give the name of a rival's folder in the study; with `.json` behind it, of its record.

    Args:
        name: The rival as it was asked for. A name with a path or a notation ends in a digest.
        resolution: Its input size where this is not the MasterNet's.
    """
    word = re.sub(r"[^\w.-]+", "_", name).strip("._")
    if not re.fullmatch(r"(timm:)?[\w.-]+(=scratch)?", name):
        digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=4).hexdigest()
        network = re.sub(r"[^\w.-]+", "_", name.partition("=")[0])[-MAX_WORD:]
        word = f"{network.strip('._')}-{digest}"
    return f"{RIVALS}/{word}" + (f"-{resolution}px" if resolution else "")


def visits_path(table: Path) -> Path:
    """Give the file that keeps the timings of a latency table until the table is stored."""
    return table.with_suffix(".visits.jsonl")


def source_path(table: Path, target_name: str) -> Path:
    """Give the file of the table of a faster engine, from which a latency table is made."""
    return table_path(table.parent / SOURCES, target_name)


def list_tables(latency_folder: Path) -> list[Path]:
    return [p for p in sorted(latency_folder.glob("*.json")) if not p.stem.endswith(MEASURED)]
