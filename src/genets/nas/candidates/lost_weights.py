"""Trained candidates whose weights are missing or damaged are trained again.

On one kind of machine, the candidate gets the same weights again. The recorded scores stay.
"""

from __future__ import annotations

from genets.core.errors import GenetsError
from genets.core.log import get_logger
from genets.nas.candidates.training import make_candidate_job, train_again
from genets.nas.context import SearchContext
from genets.nas.round_start import round_of
from genets.networks.weights import check_finite, load_tensors, read_weights
from genets.structure import Structure

_log = get_logger(__name__)


def restore_start(context: SearchContext) -> None:
    """Restore the weights of the MasterNet of a later round; see `restore_candidate`."""
    start = context.round.start
    if start is not None:
        restore_candidate(context, start.structure)


def restore_candidate(context: SearchContext, structure: Structure) -> None:
    """Train a candidate again whose weights are missing or damaged.

    Nothing happens where the structure was not trained as a candidate, nor with cross-validation,
    because the weights of a fold are not kept.

    Args:
        context: In any round.
        structure: The candidate.

    Raises:
        GenetsError: The training fails, or the weights cannot be written.
    """
    number = _round_that_trained(context, structure)
    if context.settings.num_folds > 1 or number is None or _has_weights(context, structure):
        return
    here = context.in_round(round_of(context, number))
    restore_start(here)
    _log.info(
        "candidate %s is trained again, because its weights are missing or damaged", structure
    )
    train_again(here, structure)


def _round_that_trained(context: SearchContext, structure: Structure) -> int | None:
    """The first round with a trained candidate of this structure; None where there is none."""
    study = context.study
    for number in study.round_numbers:
        done = (each.structure for each in study.trained(number) if each.status == "done")
        if structure in done:
            return number
    return None


def _has_weights(context: SearchContext, structure: Structure) -> bool:
    """Whether the stored weights of a candidate can be loaded."""
    path = make_candidate_job(context).weights_path(structure)
    try:
        tensors, _ = read_weights(path)
        check_finite(tensors, path)
        load_tensors(context.build_network(structure, "final"), tensors, path)
    except GenetsError:
        return False
    return True
