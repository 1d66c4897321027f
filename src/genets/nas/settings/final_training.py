"""The lengths of the trainings of candidates and winner, as the settings decide them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from genets.training.recipe import RunRecipe, enough_epochs, with_fewer_epochs

if TYPE_CHECKING:
    from genets.nas.settings.settings import SearchSettings


def candidates_at_each(confirm: int, resolutions: int) -> int:
    """The number of candidates at each resolution, of `confirm` candidates for all."""
    return math.ceil(confirm / resolutions)


def num_trained_candidates(settings: SearchSettings) -> int:
    """The largest number of candidates that a round trains; 0 where the best prediction wins."""
    resolutions = len({settings.resolution, *settings.space.resolutions})
    count = resolutions * candidates_at_each(settings.confirm, resolutions)
    return 0 if settings.rounds == count == 1 else count


def candidate_recipe(settings: SearchSettings, final: RunRecipe) -> RunRecipe:
    """The recipe of a candidate: that of the winner, or a shortened one.

    final: The recipe of the winner, of which short trainings may have decided some fields.
    """
    return _shortened(final, settings.confirm_epochs)


def screening_recipe(settings: SearchSettings, final: RunRecipe, images: int) -> RunRecipe:
    """The recipe of a screened structure: that of a candidate for a few epochs.

    Args:
        settings: The settings of the search.
        final: The recipe of the winner.
        images: The number of images that it is trained on; in a fold, those of the other folds.
    """
    epochs = enough_epochs(1, settings.screen_steps, images, final.batch_size)
    return _shortened(candidate_recipe(settings, final), epochs)


def _shortened(final: RunRecipe, epochs: int) -> RunRecipe:
    """The recipe of the winner, for at most so many epochs."""
    return with_fewer_epochs(final, epochs) if epochs < final.epochs else final


def keeps_candidates(settings: SearchSettings) -> bool:
    """Whether the weights of candidates are kept for the winner; those of folds are not."""
    return num_trained_candidates(settings) > 0 and settings.num_folds == 1


def continues_candidate(settings: SearchSettings) -> bool:
    """Whether the winner continues from its weights as a candidate."""
    return keeps_candidates(settings) and not settings.from_scratch


def epochs_of_winner(settings: SearchSettings) -> int:
    """The epochs of the winner, and those of the candidate from whose weights it continues."""
    final = settings.final_training.recipe()
    as_candidate = candidate_recipe(settings, final).epochs
    is_continued = continues_candidate(settings) and as_candidate < final.epochs
    return final.epochs + as_candidate * is_continued
