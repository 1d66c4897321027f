"""Short trainings decide the recipe fields that are `auto`, on the validation images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import nn

from genets.core.errors import TrainingError, is_out_of_memory
from genets.data import ImageData, steps_per_epoch, with_augmentation
from genets.data.folds import folds_to_score
from genets.data.split import Fold
from genets.training.evaluation import evaluate
from genets.training.floor import Judge
from genets.training.loop import Training
from genets.training.recipe import Recipe, RunRecipe, with_all_fields
from genets.training.step import Teacher
from genets.training.team import ALONE, Team
from genets.training.variants import Variant, best_variant, is_decided, variants_of

OnStep = Callable[[int, int], None]

SHARE = 0.1  # of the steps of the training
MIN_STEPS, MAX_STEPS = 50, 1000
MAX_SHARE = 3  # of the steps of the training, in all folds together


def steps_of_variant(recipe: RunRecipe, images: int) -> int:
    """The steps of the short training of each variant. images: in the training split."""
    whole = recipe.epochs * steps_per_epoch(images, recipe.batch_size)
    return min(whole, max(MIN_STEPS, min(MAX_STEPS, round(SHARE * whole))))


def steps_of_variants(recipe: RunRecipe, images: int) -> int:
    """The steps of all short trainings; 0 for a recipe that is decided."""
    return 0 if is_decided(recipe) else len(variants_of(recipe)) * steps_of_variant(recipe, images)


def folds_to_decide(data: ImageData, recipe: RunRecipe) -> Sequence[Fold | None]:
    """Give the folds of the short trainings; see `in_fold`.

    With few validation images, there are as many folds as need at most `MAX_SHARE` times the steps
    of the training.

    Returns:
        The folds; None alone where the validation split decides as it is.
    """
    images = len(data.train)
    whole = recipe.epochs * steps_per_epoch(images, recipe.batch_size)
    affordable = MAX_SHARE * whole // max(1, steps_of_variants(recipe, images))
    folds = folds_to_score(data)[:affordable]
    return folds if len(folds) > 1 else [None]


def decide_fields(
    net: nn.Module,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    device: str | torch.device = "cpu",
) -> RunRecipe:
    """Give the recipe with the fields of the best variant; see `try_variants`."""
    whole = with_all_fields(recipe)
    if is_decided(whole):
        return whole
    tried = try_variants(net, data, whole, seed=seed, teacher=teacher, device=device)
    return best_variant(tried).of(whole)


def try_variants(
    net: nn.Module,
    data: ImageData,
    recipe: RunRecipe,
    *,
    seed: int,
    teacher: Teacher | None = None,
    device: str | torch.device = "cpu",
    on_step: OnStep = lambda done, steps: None,
    team: Team = ALONE,
) -> list[Variant]:
    """Train a copy of a network for a few steps with each variant of a recipe, and score it.

    The copies are trained together; where memory runs out, fewer of them at a time. Where the
    recipe has a linear start, they begin with it.

    Args:
        net: The network, which does not change.
        data: The images; the recipe gives their augmentation.
        recipe: The recipe.
        seed: The seed of everything that is random.
        teacher: See `train`.
        device: The device to train on.
        on_step: Called with the number of steps done, from 0, and of all steps; a step trains each
            copy.
        team: The processes that train together.

    Returns:
        The variants with their scores.

    Raises:
        TrainingError: All of these trainings failed, or the starting weights give features that are
            not finite.
        RuntimeError: Memory ran out for one copy.
    """
    variants, start = variants_of(recipe), copy.deepcopy(net)
    data = with_augmentation(data, recipe.augmentation())
    trainings = _ShortTrainings(data, recipe, seed, teacher, device, on_step, team)
    on_step(0, steps_of_variant(recipe, len(data.train)))
    if recipe.linear_start:
        trainings.begin_linear(start, variants[0])
    scores = trainings.score(start, variants)
    faults = [score for score in scores if isinstance(score, TrainingError)]
    if len(faults) == len(scores):
        rates = ", ".join(f"{rate:g}" for rate in sorted({each.learning_rate for each in variants}))
        raise TrainingError(
            f"each short training failed, with a learning_rate of {rates} ({faults[0]}); give a "
            "lower learning_rate"
        )
    return [
        replace(variant, cross_entropy=None if isinstance(score, TrainingError) else score)
        for variant, score in zip(variants, scores, strict=True)
    ]


@dataclass(frozen=True)
class _ShortTrainings:
    """The short trainings of one network; the attributes are the arguments of `try_variants`."""

    data: ImageData
    recipe: RunRecipe
    seed: int
    teacher: Teacher | None
    device: str | torch.device
    on_step: OnStep
    team: Team

    def begin_linear(self, net: nn.Module, variant: Variant) -> None:
        """Give a network the classifier of a linear start. Raises TrainingError."""
        (fault,) = self._train([net], [variant.of(self.recipe)], 0)
        if fault is not None:
            raise fault

    def score(self, start: nn.Module, group: Sequence[Variant]) -> list[float | TrainingError]:
        """Train a copy of a network with each variant, and give the cross-entropy or the fault."""
        recipes = [replace(each.of(self.recipe), linear_start=False) for each in group]
        try:
            copies = [copy.deepcopy(start) for _ in group]
            self._train(copies, recipes, steps_of_variant(self.recipe, len(self.data.train)))
            return [self._cross_entropy(each) for each in copies]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(group) == 1 or self.team.count > 1:
                raise
        torch.cuda.empty_cache()  # outside the handler, whose traceback keeps tensors in memory
        half = len(group) // 2
        return [*self.score(start, group[:half]), *self.score(start, group[half:])]

    def _train(
        self, nets: Sequence[nn.Module], recipes: Sequence[RunRecipe], steps: int
    ) -> list[TrainingError | None]:
        """Train networks together, and give the error of each or None."""
        training = Training(
            nets,
            self.data.train,
            recipes[0],
            seed=self.seed,
            teacher=self.teacher,
            device=self.device,
            num_classes=self.data.num_classes,
            judge=Judge(self.data.validation),
            variants=recipes,
            steps=steps,
            on_step=lambda done: self.on_step(done, steps),
            team=self.team,
        )
        with closing(training.epochs()) as epochs:
            for _ in epochs:
                pass
        return training.faults

    def _cross_entropy(self, net: nn.Module) -> float | TrainingError:
        """On the validation images; the fault where there is none, as after a failed training."""
        try:
            score = evaluate(
                net,
                self.data.validation,
                self.recipe.batch_size,
                self.device,
                channels_last=self.recipe.channels_last,
                total=self.team.sum,
            )
        except TrainingError as error:
            return error
        return score.cross_entropy
