"""The runs of two processes; test_processes.py runs this file: python team_lab.py FOLDER.

They are started as torchrun would start them, but out of one that has imported everything.
"""

import json
import multiprocessing
import os
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from genets.core.errors import GenetsError
from genets.data import ImageData, load_data, seeded_globals
from genets.nas.team_training import TeamJob, TeamRunner
from genets.networks import resolve_network
from genets.training import Listener, Metric, RunRecipe, RunSettings
from genets.training.epoch_checkpoints import EpochCheckpoints
from genets.training.run.distributed import is_first_process
from genets.training.run.state import TrainingState
from genets.training.train_network import train_network

BN_FREE = "timm:test_mambaout"
WITH_BN = "Conv3x8s2 XX3x16s2 BL3x24r0.5 Conv1x32 @16"
DRAWING = RunRecipe(  # all that draws random numbers, and all that keeps state
    epochs=2, batch_size=256, learning_rate=0.05, mixup=0.4, ema_decay=0.9, weight_decay=0.01
)
UNDECIDED = replace(DRAWING, epochs=1, learning_rate="auto", mixup=0.0, optimizer="adamw")
PLAIN = RunRecipe(epochs=2, batch_size=256, learning_rate=0.4)
PHOTOS = RunRecipe(epochs=1, batch_size=32, learning_rate=0.1)


class KilledError(Exception):
    pass


def settings(
    network: str, recipe: RunRecipe, data: str | Path = "digits", resolution: int | None = None
) -> RunSettings:
    return RunSettings(network=network, data=str(data), recipe=recipe, resolution=resolution)


def run(what: RunSettings, out: Path, notes: list[str] | None = None, **options: Any) -> Any:
    notes = [] if notes is None else notes
    listener = Listener(note=notes.append)
    return train_network(what, out, device="cpu", listener=listener, **options)


def killed(what: RunSettings, out: Path, step: int) -> None:
    """Run until every process dies at the beginning of a step (counted from 1)."""
    original, calls = TrainingState.step, iter(range(1, 10**6))

    def dying(self: TrainingState, *arguments: Any) -> Any:
        if next(calls) == step:
            raise KilledError
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
        patch.setattr(TrainingState, "step", dying)
        run(what, out, processes=2, checkpoint_seconds=0.0)


def searched() -> tuple[nn.Module, ImageData]:
    """A network and the images as a search gives them to several processes."""
    with seeded_globals("team"):
        net = resolve_network(BN_FREE, 10).network
    return net, load_data("digits", 16)


def run_as_search(folder: Path) -> None:
    """Train as a process of a search; the first one writes the losses and the weights."""
    recipe = replace(DRAWING, precision="fp32")
    job = TeamJob.of(
        searched()[0], None, searched()[1], recipe=recipe, seed=0, device="cpu", processes=2,
        own_blocks=(), metric=Metric.CROSS_ENTROPY, port=int(os.environ["MASTER_PORT"]),
        checkpoints=EpochCheckpoints(folder / "search.checkpoints", "key", seconds=0.0),
    )  # fmt: skip
    runner = TeamRunner(job, int(os.environ["LOCAL_RANK"]))
    losses = [runner.run((None,))[1] for _ in range(recipe.epochs)]
    for weights in runner.run((None,)):
        (folder / "search.weights").write_bytes(weights)
        (folder / "search.json").write_text(json.dumps(losses))


def main(folder: Path) -> None:
    run_as_search(folder)
    run(settings(BN_FREE, DRAWING, resolution=16), folder / "bn-free", processes=2)
    run(settings(BN_FREE, UNDECIDED, resolution=16), folder / "undecided", processes=2)
    run(settings(WITH_BN, PLAIN), folder / "alone", processes=2)
    for step in (3, 4):
        killed(settings(WITH_BN, PLAIN), folder / "killed", step)
    run(settings(WITH_BN, PLAIN), folder / "killed", processes=2)
    notes: list[str] = []
    faults: list[str] = []
    photos = settings(WITH_BN, PHOTOS, folder / "photos")
    run(photos, folder / "broken", notes, processes=2)
    odd = RunRecipe(epochs=1, batch_size=31)
    for wrong in (settings(BN_FREE, PLAIN, resolution=16), settings(WITH_BN, odd)):
        try:
            run(wrong, folder / ("alone" if wrong.recipe == PLAIN else "odd"), processes=2)
        except GenetsError as error:
            faults.append(str(error))
    number = 1 if is_first_process() else 2
    (folder / f"seen-{number}.json").write_text(json.dumps({"notes": notes, "faults": faults}))


def member(number: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(number)
    main(folder)


def start(folder: Path) -> int:
    """Return exit status 0 if both processes end without an error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fork = multiprocessing.get_context("fork")
    team = [fork.Process(target=member, args=(number, folder)) for number in range(2)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    return max(abs(1 if process.exitcode is None else process.exitcode) for process in team)


if __name__ == "__main__":
    sys.exit(start(Path(sys.argv[1])))
