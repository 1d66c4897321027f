"""The phase that trains the candidates of a search and chooses the winner among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genets.errors import GenetsError
from genets.nas.confirming import ConfirmJob
from genets.nas.executors import EXECUTORS
from genets.nas.observations import Response, oriented
from genets.nas.result import Confirmed, Selected
from genets.nas.session import Session
from genets.structure import Structure

CONFIRMED = "confirmed"  # the record of what was trained, in the order of the candidates


def confirm(session: Session, candidates: Sequence[Selected]) -> list[Confirmed]:
    """The candidates' scores, in their order; those that are missing are trained.

    Each is recorded as it ends. Failed ones are tried again, until a winner has been chosen.
    Raises GenetsError where all of them failed.
    """
    structures = [candidate.structure for candidate in candidates]
    known = {one.structure: one for one in stored_confirmations(session)}
    retried = not session.study.has_winner
    missing = [s for s in structures if s not in known or (retried and known[s].status != "done")]
    if missing:
        with session.phase("confirmation"):
            _train(session, structures, missing, known)
    confirmed = [known[structure] for structure in structures]
    if all(one.status == "failed" for one in confirmed):
        raise GenetsError(
            f"all {len(confirmed)} candidates failed while they were confirmed "
            f"({confirmed[0].reason}); give the same command again to retry them, or begin "
            "another study with other settings of final_training"
        )
    return confirmed


def stored_confirmations(session: Session) -> list[Confirmed]:
    read = session.study.load_json(CONFIRMED, lambda rows: [Confirmed.from_json(r) for r in rows])
    return read or []


def _train(
    session: Session,
    structures: Sequence[Structure],
    missing: Sequence[Structure],
    known: dict[Structure, Confirmed],
) -> None:
    tell, done = session.tell("confirmation"), len(structures) - len(missing)
    tell(done, len(structures))
    job = confirm_job(session)
    job.folder.mkdir(exist_ok=True)
    for one in EXECUTORS["inline"](job, [(structure,) for structure in missing], session.workers):
        known[one.structure] = one
        rows = [known[structure].to_json() for structure in structures if structure in known]
        session.study.save_json(CONFIRMED, rows)
        done += 1
        tell(done, len(structures), str(one.structure))


def confirm_job(session: Session) -> ConfirmJob:
    """What trains the candidates: the final recipe, or a shortened one."""
    settings = session.settings
    recipe, epochs = settings.final_training.recipe(), settings.confirm_epochs
    if epochs < recipe.epochs:
        warmup = min(recipe.warmup_epochs, epochs / 2)
        recipe = replace(recipe, epochs=epochs, warmup_epochs=warmup)
    return ConfirmJob(
        master=session.master,
        master_weights=session.study.master_weights,
        data=settings.data,
        recipe=recipe,
        seed=settings.seed,
        folder=session.study.confirmed_folder,
        device=session.device,
        own_blocks=settings.own_blocks,
    )


def best_confirmed(confirmed: Sequence[Confirmed], response: Response) -> Structure:
    """The one with the best score; of equal ones the first, the better predicted."""

    def value(one: Confirmed) -> float:
        score = getattr(one, response)
        assert score is not None
        return oriented(float(score), response)

    return max((one for one in confirmed if one.status == "done"), key=value).structure
