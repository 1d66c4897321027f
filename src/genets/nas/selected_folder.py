"""The folder of a selection: the structure, its measurement, and the command that trains it."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from genets.core.errors import StudyError
from genets.core.files import write_atomic
from genets.core.json_files import write_json
from genets.core.log import log_to_file
from genets.core.output_folder import check_writable_folder, is_free, make_folder
from genets.latency import Budget, Target
from genets.latency.budget import DEFAULT_WAIT_MINUTES
from genets.nas.settings.toml_tables import format_toml_tables
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.nas.study.records import Candidate
from genets.networks import save_weights
from genets.networks.own_blocks import find_block_files
from genets.networks.weights import STRUCTURE_FILE
from genets.structure import Structure
from genets.training import Metric, RunSettings

MEASUREMENT, RECIPE, COMMAND = "selected.json", "recipe.toml", "train.sh"
START = "start.safetensors"  # the weights that the structure inherits in the study
TRAINING = "training"  # the folder of the training run


@dataclass(frozen=True)
class SelectedFolder:
    """The files that were written for one selected structure.

    Attributes:
        files: By label the written files.
        settings: The training of the structure, as the study trains its winner.
        out: The folder of that training.
        command: The command line that begins or continues it.
    """

    files: dict[str, Path]
    settings: RunSettings
    out: Path
    command: str


def check_folder(folder: Path, structure: Structure | None = None) -> None:
    """Check that a selection can be written to a folder.

    Args:
        folder: The folder.
        structure: The selected structure, if it is known.

    Raises:
        StudyError: The folder is not new, not empty, and holds no earlier selection, or one of
            another structure.
    """
    is_selection = (folder / STRUCTURE_FILE).is_file() and (folder / MEASUREMENT).is_file()
    is_new = not folder.exists() or (folder.is_dir() and is_free(folder))
    if not (is_selection or is_new):
        raise StudyError(f"{folder} is not empty and holds no selection; take another folder")
    check_writable_folder(folder)
    path = folder / STRUCTURE_FILE
    if structure is not None and path.exists() and Structure.load(path) != structure:
        raise StudyError(
            f"{folder} holds another structure than the selected {structure}; take another folder"
        )


@dataclass(frozen=True)
class Selection:
    """A selected structure, and how it was selected.

    Attributes:
        candidate: The structure and its measurement.
        budget: The budget that it meets.
        target: The target of the measurement.
        wait_minutes: The longest wait for a calm device.
    """

    candidate: Candidate
    budget: Budget
    target: Target
    wait_minutes: float = DEFAULT_WAIT_MINUTES


def write_selected(study: StudyReader, selection: Selection, folder: Path) -> SelectedFolder:
    """Write a selected structure to a folder.

    The training has the recipe, the images and the seed of the study's winner, and the MasterNet of
    the study as its teacher. Where the study's candidates inherit weights, it starts from the
    weights that the structure inherits.

    Args:
        study: The study of the selection.
        selection: The structure.
        folder: A new or empty folder, or one with an earlier selection of the same structure.

    Raises:
        StudyError: The folder holds something else.
        GenetsError: The structure inherits weights, and the images cannot be read.
        OSError: A file cannot be written.
    """
    selected = selection.candidate
    check_folder(folder, selected.structure)
    start = None if study.settings.from_scratch else folder / START
    settings = _training_settings(study, selected.structure, start)
    paths = {
        "structure": folder / STRUCTURE_FILE,
        "measurement": folder / MEASUREMENT,
        "recipe": folder / RECIPE,
        "command": folder / COMMAND,
    }
    out = folder / TRAINING
    device = study.settings.training_device
    words = _command(settings, paths["structure"], paths["recipe"], device, out)
    command = shlex.join(["genets", *words])
    script = shlex.join([sys.executable, "-m", "genets", *words])  # genets may not be on PATH
    record = {
        "study": str(study.folder.absolute()),
        "target": selection.target.to_json(),
        "metric": study.settings.metric,
        **selected.to_json(),
        "train": command,
    }
    recipe = {name: value for name, value in asdict(settings.recipe).items() if value is not None}
    make_folder(folder)
    write_atomic(paths["structure"], selected.structure.to_toml())
    write_json(paths["measurement"], record)
    write_atomic(paths["recipe"], format_toml_tables(recipe))
    write_atomic(paths["command"], f'#!/bin/sh\n{script} "$@"\n')
    if start is not None:  # last, because the other files need no images
        paths["start"] = start
        _write_start(study, selection, start)
    return SelectedFolder(paths, settings, out, command)


def _write_start(study: StudyReader, selection: Selection, path: Path) -> None:
    """Write the weights that a structure inherits in the last round that selected candidates."""
    from genets.nas.candidates.lost_weights import restore_start
    from genets.nas.candidates.training import make_candidate_job, start_candidate
    from genets.nas.context import SearchContext
    from genets.nas.master.start import starting_preprocessing
    from genets.nas.reselect import unstored_timer
    from genets.nas.round_start import current_round
    from genets.nas.study.study import Study

    preprocessing = starting_preprocessing(study.settings, study.folder)
    structure, num_classes = selection.candidate.structure, study.num_classes()
    assert num_classes is not None, "the study has trials"
    with Study.open(study.folder) as opened, log_to_file(study.folder / layout.LOG):
        first = SearchContext(
            opened, num_classes, budget=selection.budget, target=selection.target,
            preprocessing=preprocessing, wait_minutes=selection.wait_minutes,
            timer=unstored_timer(),
        )  # fmt: skip
        here = first.in_round(current_round(first, selected=True))
        restore_start(here)
        data = make_candidate_job(here).load_data(structure.resolution)
        net = start_candidate(here, structure, data)
        save_weights(net, path, {"structure": str(structure), **data.weights_metadata()})


def _training_settings(study: StudyReader, structure: Structure, start: Path | None) -> RunSettings:
    settings = study.settings
    return RunSettings(
        network=str(structure),
        data=settings.data,
        recipe=study.recipe("final_training"),
        recipe_name="quick",  # every field is given, so the name does not matter
        seed=settings.seed,
        weights="" if start is None else str(start.absolute()),
        teacher=str(settings.structure),
        teacher_weights=str(study.master_weights.absolute()),
        metric=settings.metric if settings.metric is Metric.BALANCED_ACCURACY else None,
        max_broken_share=settings.max_broken_share,
    )


def _command(
    settings: RunSettings, structure: Path, recipe: Path, device: str, out: Path
) -> list[str]:
    """The words of the command behind `genets`."""
    types = (stage.type for stage in Structure.parse(settings.network).stages)
    blocks = [word for file in find_block_files(types) for word in ("--own-blocks", str(file.path))]
    return [
        *blocks, "train", str(structure.absolute()),
        "--data", settings.data,
        *(["--weights", settings.weights] if settings.weights else []),
        "--recipe", settings.recipe_name,
        "--recipe-file", str(recipe.absolute()),
        "--teacher", settings.teacher,
        "--teacher-weights", settings.teacher_weights,
        "--seed", str(settings.seed),
        "--device", device,
        "--max-broken-share", str(settings.max_broken_share),
        *(["--metric", settings.metric] if settings.metric else []),
        "--out", str(out.absolute()),
    ]  # fmt: skip
