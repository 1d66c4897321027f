"""The truth that predictions are compared with: scores of fully trained random structures.

Each structure of the search space is trained from scratch with the final recipe of a search, once
per seed, and scored on the test split. The scores are stored in results/truth_<data>.json; more
structures or seeds only train those that are missing. The data are digits, shapes (see `shapes`) or
photographs of CIFAR-10 (see `cifar10`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from cifar10 import cifar10_settings
from conditions import RESULTS
from genets.core.host import count_cpus
from genets.data import ImageData, load_data
from genets.data.nuisance import Nuisance
from genets.data.seeds import seeded_globals
from genets.latency import measure_interleaved
from genets.nas.settings.settings import SearchSettings
from genets.networks import build
from genets.structure import Structure
from genets.training import evaluate, train_on
from shapes import NUISANCE

T = TypeVar("T")

WORKERS = count_cpus()
# The true scores are those of networks that are trained from scratch.
DATA: dict[str, dict[str, Any]] = {
    "digits": {"data": "digits", "from_scratch": True},
    "shapes": {"data": "shapes", "resolution": 24, "from_scratch": True},
}
CIFAR10 = "cifar10"
NUISANCES = {"digits": Nuisance(), "shapes": NUISANCE}
TINY = {
    "trials_per_super_block": 2,
    "controls_per_super_block": 1,
    "master_training": {"epochs": 8},  # a search stops if its MasterNet has learned nothing
    "trial_training": {"epochs": 1, "warmup_epochs": 0},
    "final_training": {"epochs": 1, "warmup_epochs": 0},
}


def add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="digits", choices=[*DATA, CIFAR10])
    parser.add_argument("--photos", type=Path, help="for cifar10: the folder of photographs")


@contextmanager
def data_settings(
    options: argparse.Namespace, folder: Path | None = None
) -> Iterator[dict[str, Any]]:
    """The settings of a search that belong to the data.

    folder: where the photographs stay, for studies that continue; by default they are removed.
    """
    with tempfile.TemporaryDirectory(prefix="genets-photographs-") as temporary:
        if options.data == CIFAR10:
            yield cifar10_settings(options.photos, (folder or Path(temporary)) / CIFAR10)
        else:
            yield DATA[options.data]


def truth_file(data: str) -> Path:
    return RESULTS / f"truth_{data}.json"


@contextmanager
def training_pool() -> Iterator[Executor]:
    """A pool of one-thread processes; these train small networks fastest."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, context, torch.set_num_threads, (1,)) as pool:
        yield pool


def run_in_new_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new process with all threads; return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def make_truth(path: Path, base: dict[str, Any], structures: int, seeds: int) -> None:
    """Train the missing networks; store each score at once, so that a stopped run continues."""
    settings = SearchSettings(**base)
    space = settings.space.design_space().around(settings.structure)
    rng = np.random.default_rng(2020)
    drawn = [str(space.sample(rng)) for _ in range(structures)]
    record = json.loads(path.read_text()) if path.exists() else {}
    nuisance = NUISANCES.get(settings.data)
    conditions = {
        "recipe": settings.final_training.model_dump(),
        "master": settings.master,
        "nuisance": json.loads(json.dumps(nuisance and asdict(nuisance))),
    }
    if {name: record.get(name) for name in conditions} != conditions:
        record = conditions | {"scores": {}}
    jobs = [
        (base, structure, seed)
        for seed in range(seeds)
        for structure in drawn
        if str(seed) not in record["scores"].get(structure, {})
    ]
    with training_pool() as pool:
        pairs = zip(jobs, pool.map(true_score, jobs), strict=True)
        for (_, structure, seed), score in pairs:
            record["scores"].setdefault(structure, {})[str(seed)] = score
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            print(structure, seed, score, flush=True)


@cache
def images(name: str, resolution: int, seed: int) -> ImageData:
    """Load a data set once per process."""
    return load_data(name, resolution, seed=seed)


def true_score(job: tuple[dict[str, Any], str, int]) -> tuple[float, float]:
    base, notation, seed = job
    settings = SearchSettings(**base)
    data = images(settings.data, settings.resolution, 0)
    with seeded_globals("truth", seed):
        net = build(Structure.parse(notation), data.num_classes)
    train_on(net, data, settings.final_training.recipe(), seed=1000 + seed)
    score = evaluate(net, data.test)
    return score.top1, score.cross_entropy


@dataclass(frozen=True)
class Truth:
    """Structures and their test scores.

    Attributes:
        structures: the structures.
        scores: (structures, seeds, 2), top-1 and cross-entropy, for the seeds that all structures
            have.
    """

    structures: tuple[Structure, ...]
    scores: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Truth:
        if not path.exists():
            raise SystemExit(f"{path} does not exist; create it with: search_quality.py truth")
        record = json.loads(path.read_text())["scores"]
        seeds = sorted(set.intersection(*(set(scores) for scores in record.values())))
        if not seeds:
            raise SystemExit(f"{path} is not complete; continue it with: search_quality.py truth")
        table = np.array([[scores[seed] for seed in seeds] for scores in record.values()])
        return cls(tuple(map(Structure.parse, record)), table)

    @cached_property
    def ms_per_image(self) -> np.ndarray:
        """(structures,): latencies measured in turn, now and on this machine."""
        target = SearchSettings(data="digits", budget="1x").target
        nets = {str(s): build(s, 10) for s in self.structures}
        resolution = self.structures[0].resolution
        measured = measure_interleaved(nets, target, resolution, time_limit_s=0.5)
        return np.array([measured[str(s)].ms_per_image for s in self.structures])

    def correlation(self, predicted: Sequence[float]) -> dict[str, float]:
        """Spearman, over all structures and at equal latency; higher `predicted` is better."""
        correlations = self.rank_correlations(predicted)
        for name, true in self._oriented():
            correlations[f"{name}_at_equal_latency"] = partial(predicted, true, self.ms_per_image)
        return correlations

    def rank_correlations(self, predicted: Sequence[float]) -> dict[str, float]:
        """Spearman over all structures; this needs no latency."""
        return {name: rank_correlation(predicted, true) for name, true in self._oriented()}

    def spread(self) -> dict[str, dict[str, float] | None]:
        names = enumerate(("top1", "cross_entropy"))
        return {name: spread(self.scores[:, :, i]) for i, name in names}

    def _oriented(self) -> tuple[tuple[str, np.ndarray], ...]:
        means = self.scores.mean(axis=1).T
        return ("top1", means[0]), ("cross_entropy", -means[1])


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    return float(spearmanr(first, second).statistic)


def partial(first: ArrayLike, second: ArrayLike, given: ArrayLike) -> float:
    """Spearman's partial rank correlation of the first two, given the third."""
    pairs = ((first, second), (first, given), (second, given))
    both, with_first, with_second = (rank_correlation(a, b) for a, b in pairs)
    scale = np.sqrt((1 - with_first**2) * (1 - with_second**2))
    return float((both - with_first * with_second) / scale)


def spread(values: np.ndarray) -> dict[str, float] | None:
    """Standard deviations between networks and between seeds; None for one seed.

    Args:
        values: (structures, seeds).
    """
    if values.shape[1] < 2:
        return None
    within = float(values.var(axis=1, ddof=1).mean())
    mean_variance = float(values.mean(axis=1).var(ddof=1))
    between = max(0.0, mean_variance - within / values.shape[1])
    return {
        "std_networks": between**0.5,
        "std_seeds": within**0.5,
        "ratio": (between / within) ** 0.5,
        "ceiling": (between / mean_variance) ** 0.5,
    }
