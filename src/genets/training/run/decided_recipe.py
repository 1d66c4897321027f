"""The recipe of a run: short trainings decide its fields that are `auto`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from torch import nn

from genets.core.errors import TrainingError, is_out_of_memory
from genets.core.progress import Progress
from genets.data import ImageData
from genets.data.folds import in_fold
from genets.data.split import Fold
from genets.networks.weights_facts import were_trained_on
from genets.training.recipe import RunRecipe
from genets.training.resources import describe_single_value
from genets.training.run.distributed import Processes
from genets.training.run.epoch_log import Listener
from genets.training.run.folder import (
    find_variants,
    has_checkpoints,
    image_facts,
    load_variants,
    store_variants,
)
from genets.training.run.settings import RunSettings
from genets.training.short_trainings import folds_to_decide, try_variants
from genets.training.variants import (
    Variant,
    best_variant,
    describe_variants,
    is_decided,
    join_folds,
    name_variants,
)


def decide_recipe(
    settings: RunSettings,
    out: Path,
    net: nn.Module,
    data: ImageData,
    teacher: nn.Module | None,
    processes: Processes,
    listener: Listener,
) -> RunRecipe:
    """Decide and store the fields of a recipe that are still `auto`.

    A run with checkpoints has decided them, and so has a run that was stopped after the short
    trainings, if its settings, images and kind of device are the same. With few validation images,
    the short trainings are cross-validated.

    Args:
        settings: The settings of the run.
        out: The folder of the run.
        net: The network with its starting weights, which does not change.
        data: The images of the run.
        teacher: The teacher, if there is one.
        processes: The processes that train together.
        listener: Called with progress and messages.

    Raises:
        TrainingError: All short trainings failed, or memory ran out.
        DataError: Too many images cannot be read.
    """
    recipe = settings.recipe
    if is_decided(recipe):
        return recipe
    if has_checkpoints(out):
        return best_variant(load_variants(out)).of(recipe)
    # Weights that were trained on these images know the images of each fold.
    has_seen = were_trained_on(settings.weights, data.origin)
    folds = [None] if has_seen else folds_to_decide(data, recipe)
    conditions = {
        "settings": settings.comparable(),
        "images": image_facts(data),
        "device": processes.device.type,
    }
    tried = find_variants(out, conditions)
    if tried is None:
        tried = _try_in_folds(settings, net, data, teacher, folds, processes, listener)
        processes.run_on_first(partial(store_variants, out, tried, conditions))
    in_folds = f"; each was scored in {len(folds)} folds" if len(folds) > 1 else ""
    listener.note(f"{describe_variants(tried)}{in_folds}")
    return best_variant(tried).of(recipe)


def _try_in_folds(
    settings: RunSettings,
    net: nn.Module,
    data: ImageData,
    teacher: nn.Module | None,
    folds: Sequence[Fold | None],
    processes: Processes,
    listener: Listener,
) -> list[Variant]:
    """Run the short trainings of each fold, and give the mean of each variant."""
    recipe = settings.recipe
    scores = []
    for number, each in enumerate(folds):
        images = in_fold(data, each)  # the processes that read the fold before it end here

        def on_step(done: int, steps: int, number: int = number) -> None:
            fold = f", fold {number + 1} of {len(folds)}" if len(folds) > 1 else ""
            detail = f"{name_variants(recipe)}{fold}"
            at, total = number * steps + done, len(folds) * steps
            listener.progress(Progress("short trainings", at, total, detail))

        with _explained_faults(recipe, processes):
            scores.append(
                try_variants(
                    net,
                    images,
                    recipe,
                    seed=settings.seed,
                    teacher=teacher,
                    device=processes.device,
                    on_step=on_step,
                    team=processes.team,
                )
            )
    return join_folds(scores)


@contextmanager
def _explained_faults(recipe: RunRecipe, processes: Processes) -> Iterator[None]:
    """Turn the faults of short trainings that have a known cause into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError, ValueError) as error:
        if isinstance(error, RuntimeError) and processes.is_lost(error):
            reason = "another process of this run has ended during the short trainings"
        elif is_out_of_memory(error):
            reason = (
                f"memory ran out with {recipe.batch_size} images in a batch during the short "
                "trainings; --batch-size must be smaller"
            )
        else:
            reason = describe_single_value(error)
            if not reason:
                raise
        raise TrainingError(reason) from error
