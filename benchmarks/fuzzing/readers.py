"""The functions with which genets reads each file of `files`, and commands that read it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fuzzing.files import (
    CLASSES,
    IMAGES,
    NOTATION,
    OTHER,
    PHOTOS,
    RANKED,
    RANKING_RECIPE,
    RUN,
    STORED,
    STUDY,
    class_of,
)
from genets.analysis.comparison.rows import load_rows
from genets.analysis.masters import rank_masters
from genets.analysis.rank.advice import load_block_latencies
from genets.data import load_data
from genets.latency import Target
from genets.latency.engines.base import explain_failures
from genets.latency.engines.onnxruntime_engine import OnnxFiles, OnnxRuntimeEngine
from genets.nas.new_study import settings_at
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import load_settings_file
from genets.nas.snapshot import Snapshot
from genets.nas.study.reader import StudyReader
from genets.nas.study.study import Study
from genets.networks import build, load_weights, resolve_network
from genets.networks.weights import read_tensors
from genets.report.study.facts import study_record
from genets.report.study.page import study_page
from genets.structure import Structure
from genets.training.checkpoints import Checkpoints
from genets.training.recipe import apply_changes, make_recipe, named_recipe, read_recipe_file
from genets.training.run.distributed import Processes
from genets.training.run.epoch_log import read_log
from genets.training.run.folder import check_images, load_settings
from genets.training.run.inputs import log_broken

TARGET = Target(engine="onnxruntime", batch_size=2, threads=1)
# `{root}` stands for the folder of the valid files.
RECIPE_FILE, STRUCTURE = "{root}/recipe.toml", "{root}/structure.toml"
RESULTS = "{root}/study/results"
MEASURE = "--time-limit 0.01 --batch-size 1 --threads 1"


@dataclass(frozen=True)
class Subject:
    """A file that genets reads.

    Attributes:
        kind: The kind of its mutations.
        path: The file, below the folder of the valid files.
        read: Reads the mutated file, given that folder.
        commands: The words of commands that read it; `{root}` stands for the folder.
    """

    kind: str
    path: Path
    read: Callable[[Path], object]
    commands: tuple[str, ...] = ()


def _study_files() -> list[Subject]:
    report, select = "report {root}/study --json", "select {root}/study --budget 0.7x"
    names = (
        "data", "master", "candidates", "confirmed", "selected", "seconds", "format",
        "rounds/2/master", "rounds/2/candidates", "rounds/2/confirmed", "results/result",
    )  # fmt: skip
    tables = [path.relative_to(STORED) for path in sorted((STORED / "latency").glob("*.json"))]
    paths = [*(Path(f"{name}.json") for name in names), *tables]
    known = [STUDY / path for path in paths if (STORED / path).exists()] + [STUDY / CLASSES]
    return [
        *(Subject("json", path, read_study, (report, select)) for path in known),
        *(Subject("sqlite", STUDY / rounds / "trials.sqlite", read_study, (report, select))
          for rounds in ("", "rounds/2")),
        Subject("toml", STUDY / "study.toml", read_study, (report, select)),
        Subject("toml", STUDY / "results" / "structure.toml", read_results,
                (f"measure {RESULTS} {MEASURE}",)),
        Subject("weights", STUDY / "results" / "weights.safetensors", read_results,
                ("rank {root}/study/results", "eval {root}/study/results --data digits")),
        Subject("weights", STUDY / "master.safetensors", read_master),
        Subject("onnx", STUDY / "results" / "network.onnx", read_onnx,
                ("eval {root}/study/results/network.onnx --data digits",
                 f"measure {RESULTS} {MEASURE}")),
    ]  # fmt: skip


def subjects() -> list[Subject]:
    """All files, in a fixed order."""
    search = "search --settings {root}/settings.toml --data {root}/nothing --out {root}/new"
    train = "train {root}/structure.toml --data {root}/nothing --out {root}/new"
    run = "train --out {root}/run --workers 0"
    return [
        *_study_files(),
        *(
            Subject("image", PHOTOS / class_of(number) / name, read_images,
                    ("eval {root}/run/results --data {root}/photos",
                     f"predict {{root}}/run/results {{root}}/photos/{class_of(number)}/{name}"))
            for number, name in enumerate(IMAGES)
        ),
        Subject("weights", Path("weights.pth"), read_checkpoint_of_torch,
                (f'rank "{NOTATION}" --checkpoint {{root}}/weights.pth',)),
        Subject("weights", RUN / "results" / "weights.safetensors", read_weights_file,
                ("eval {root}/run/results --data {root}/photos",)),
        Subject("weights", Path("checkpoint.safetensors"), read_checkpoint),
        Subject("toml", Path("structure.toml"), read_structure,
                (f"measure {STRUCTURE} {MEASURE}", train)),
        Subject("toml", Path("settings.toml"), read_settings, (search,)),
        Subject("toml", Path("recipe.toml"), read_recipe,
                (f"{train} --recipe-file {RECIPE_FILE}",)),
        Subject("json", RUN / "settings.json", lambda root: load_settings(root / RUN)),
        Subject("json", RUN / "images.json", read_run_images, (run,)),
        Subject("json", RUN / "log.jsonl", lambda root: read_log(root / RUN / "log.jsonl"), (run,)),
        Subject("json", RUN / "broken.jsonl", read_broken, (run,)),
        Subject("json", Path("rows.json"), read_rows),
        Subject("json", Path("profile/profile.json"), read_profile,
                (f'rank "{NOTATION}" --profile {{root}}/profile',)),
        Subject("json", Path("masternets.json"), read_ranking),
    ]  # fmt: skip


def _run_once(network: torch.nn.Module) -> None:
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, 32, 32))


def read_study(root: Path) -> None:
    """Read a study and make its page as `genets report` does, and open it as `genets select`."""
    snapshot = Snapshot.read(root / STUDY)
    study_record(snapshot)
    study_page(snapshot, "today")
    for latency in snapshot.targets:
        snapshot.frontier(latency.table, snapshot.master.resolution)
    with Study.open(root / STUDY) as study:
        study.results(), study.results(2), study.starts(), study.num_classes()


def read_results(root: Path) -> None:
    source = resolve_network(str(root / STUDY / "results"))
    _ = source.class_names, source.normalisation
    _run_once(source.network)


def read_master(root: Path) -> None:
    settings = StudyReader(root / STUDY).settings
    network = build(settings.structure, 10)
    load_weights(network, root / STUDY / "master.safetensors")
    _run_once(network)


def read_onnx(root: Path) -> None:
    engine = OnnxRuntimeEngine()
    with explain_failures(TARGET, 8):
        OnnxFiles(engine, b"", TARGET).load(root / STUDY / "results")(torch.zeros(2, 3, 8, 8))


def read_images(root: Path) -> None:
    data = load_data(root / PHOTOS, 16, workers=0)
    for split in (data.train, data.validation, data.test):
        for images, _ in split.batches(4):
            assert images.shape[1:] == (3, 16, 16)


def read_checkpoint_of_torch(root: Path) -> None:
    read_tensors(root / "weights.pth")
    source = resolve_network(NOTATION, 10, weights=root / "weights.pth")
    _run_once(source.network)


def read_weights_file(root: Path) -> None:
    path = root / RUN / "results" / "weights.safetensors"
    source = resolve_network(OTHER, 2, weights=path)
    _ = source.class_names, source.normalisation
    resolve_network(OTHER, 7, weights=path, fit="kernels")
    resolve_network(OTHER, 7, weights=path, fit="new classifier")


def read_checkpoint(root: Path) -> None:
    """Give the mutated file the name of its own digest, as a hostile file would have it."""
    content = (root / "checkpoint.safetensors").read_bytes()
    folder = root / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    (folder / f"epoch-0001-step-000000.{digest}.safetensors").write_bytes(content)
    checkpoints = Checkpoints(folder)
    checkpoints.last(), checkpoints.best(1)


def read_structure(root: Path) -> None:
    structure = Structure.load(root / "structure.toml")
    assert Structure.parse(str(structure)) == structure


def read_settings(root: Path) -> None:
    values = load_settings_file(root / "settings.toml")
    settings = SearchSettings(**settings_at(root / "new", None, values))
    _ = settings.space.design_space().around(settings.structure).size
    assert SearchSettings.from_toml(settings.to_toml()) == settings


def read_recipe(root: Path) -> None:
    values = apply_changes(named_recipe("quick"), read_recipe_file(root / "recipe.toml"))
    make_recipe(values)


def read_run_images(root: Path) -> None:
    check_images(root / RUN, load_data(root / PHOTOS, 16, workers=0, check=False))


def read_broken(root: Path) -> None:
    data = load_data(root / PHOTOS, 16, workers=0, check=False)
    team = Processes("cpu", None, "fp32")
    with log_broken(data, root / RUN / "broken.jsonl", team, lambda note: None):
        pass


def read_rows(root: Path) -> None:
    load_rows(root / "rows.json").summary()


def read_profile(root: Path) -> None:
    latencies = load_block_latencies(root / "profile")
    _ = latencies.ratios, latencies.nearest_width(64)


def read_ranking(root: Path) -> None:
    """The valid file has the scores of all trainings, so nothing is trained."""
    data = load_data("digits", 8)
    _ = rank_masters(RANKED, data, RANKING_RECIPE, keep=root / "masternets.json").ranked
