"""A training killed (SIGKILL) ten times at random moments and resumed, against an unkilled one.

Run from the repository: python benchmarks/train_kills.py [--kills 10].
Writes results/train_kills.json.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from conditions import write_result

EPOCHS = 40
OPTIONS = {
    "--data": "digits",
    "--epochs": str(EPOCHS),
    "--learning-rate": "1.2",
    "--device": "cpu",
}
RECIPE = ("mixup=0.2", "ema_decay=0.99", "label_smoothing=0.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="genets-train-kills-") as folder:
        figures = compare(Path(folder), options.kills, random.Random(options.seed))
    write_result("train_kills", figures)
    assert figures["bit_equal_weights"]
    assert figures["bit_equal_last_checkpoint"]
    assert figures["same_scores"]
    assert figures["finished_epochs_lost"] == 0


def compare(folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    alone, killed = folder / "alone", folder / "killed"
    start = time.perf_counter()
    subprocess.run(command(alone), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    log: list[dict[str, Any]] = []
    finished = lost = 0
    while len(log) < kills:
        # Killed shortly after so many more epochs; 0: during its start or its first epoch.
        epochs, more = rng.randint(0, EPOCHS // kills - 1), rng.uniform(0, 3 * seconds / EPOCHS)
        wait = more if epochs else rng.uniform(0.02, 0.3) * seconds
        run_seconds = run_for(killed, finished + epochs, wait)
        if run_seconds is None:
            raise SystemExit(f"the training ended before kill {len(log) + 1}; use fewer --kills")
        checkpoint, now = newest(killed), stored_epochs(killed)
        lost += max(0, finished - now)
        finished = now
        log.append({"seconds": round(run_seconds, 1), "last_checkpoint": checkpoint})
    subprocess.run(command(killed), check=True, stdout=subprocess.DEVNULL)
    return {
        "kills": log,
        "finished_epochs_lost": lost,
        "bit_equal_weights": equal(
            *(folder / "results" / "weights.safetensors" for folder in (alone, killed))
        ),
        "bit_equal_last_checkpoint": equal(
            *(sorted((folder / "checkpoints").glob("epoch-*"))[-1] for folder in (alone, killed))
        ),
        "same_scores": scores(alone) == scores(killed),
        "scores": scores(alone),
        "recipe": {**OPTIONS, "--set": RECIPE},
        "seconds_left_alone": round(seconds, 1),
    }


def command(out: Path) -> list[str]:
    program = [sys.executable, "-m", "genets", "train", "master_small", "--out", str(out)]
    changes = [word for change in RECIPE for word in ("--set", change)]
    return [*program, *(word for option in OPTIONS.items() for word in option), *changes]


def run_for(out: Path, epochs: int, wait: float) -> float | None:
    """Resume the training, and kill it `wait` seconds after `epochs` epochs are stored.

    Returns:
        The seconds that it ran; None if it ended before the kill.
    """
    start = time.monotonic()
    process = subprocess.Popen(command(out), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and stored_epochs(out) < epochs:
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        if process.wait(timeout=wait):
            raise SystemExit(f"{' '.join(command(out))} failed")
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.monotonic() - start


def stored_epochs(out: Path) -> int:
    checkpoint = newest(out)
    return int(checkpoint[6:10]) if checkpoint else 0


def newest(out: Path) -> str | None:
    """The name of the last complete checkpoint, without its digest."""
    names = sorted(path.name for path in (out / "checkpoints").glob("epoch-*"))
    return names[-1].partition(".")[0] if names else None


def equal(first_path: Path, second_path: Path) -> bool:
    first, second = load_file(first_path), load_file(second_path)
    same_names = first.keys() == second.keys()
    return same_names and all(torch.equal(first[name], second[name]) for name in first)


def scores(out: Path) -> dict[str, Any]:
    result = json.loads((out / "results" / "result.json").read_text(encoding="utf-8"))
    return {name: result[name] for name in ("epoch", "validation", "test")}


if __name__ == "__main__":
    main()
