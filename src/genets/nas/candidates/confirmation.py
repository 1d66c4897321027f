"""The phase that trains the candidates of a search and chooses the winner among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from genets.core.errors import GenetsError
from genets.nas.accuracy.observations import Response, oriented
from genets.nas.candidates.training import ConfirmJob
from genets.nas.context import Session
from genets.nas.round import CONFIRMED, file_of
from genets.nas.study.records import Confirmed, Selected
from genets.nas.trials.executors import EXECUTORS
from genets.networks.own_blocks import where_loaded
from genets.structure import Structure


def confirm(session: Session, candidates: Sequence[Selected]) -> list[Confirmed]:
    """The candidates' scores, in their order; those that no round has trained yet are trained.

    Each is recorded as it ends. Failed ones are tried again, until one of the round was chosen.
    Raises GenetsError where all of them failed.
    """
    number = session.round.number
    structures = [candidate.structure for candidate in candidates]
    known = {one.structure: one for one in confirmations_before(session, number)}
    known |= {one.structure: one for one in stored_confirmations(session)}
    retried = not session.study.is_decided(number)
    missing = [s for s in structures if s not in known or (retried and known[s].status != "done")]
    if missing:
        with session.phase("confirmation"):
            _train(session, structures, missing, known)
    elif [one.structure for one in stored_confirmations(session)] != structures:
        # All were trained in rounds before, or before there were more trials.
        _save(session, structures, known)
    confirmed = [known[structure] for structure in structures]
    if all(one.status == "failed" for one in confirmed):
        raise GenetsError(
            f"all {len(confirmed)} candidates failed while they were confirmed "
            f"({confirmed[0].reason}); give the same command again to retry them, or begin "
            "another study with other settings of final_training"
        )
    return confirmed


def stored_confirmations(session: Session, number: int | None = None) -> list[Confirmed]:
    """Those of a round, by default of the one at work."""
    name = file_of(number or session.round.number, CONFIRMED)
    read = session.study.load_json(name, lambda rows: [Confirmed.from_json(r) for r in rows])
    return read or []


def confirmations_before(session: Session, number: int) -> list[Confirmed]:
    """Those of all rounds before one that did not fail, each structure once."""
    found = {
        one.structure: one
        for earlier in range(1, number)
        for one in stored_confirmations(session, earlier)
        if one.status == "done"
    }
    return list(found.values())


def _save(
    session: Session, structures: Sequence[Structure], known: Mapping[Structure, Confirmed]
) -> None:
    rows = [known[structure].to_json() for structure in structures if structure in known]
    session.study.save_json(session.round.file(CONFIRMED), rows)


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
        _save(session, structures, known)
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
        readers=session.readers,
        own_blocks=where_loaded(settings.own_blocks),
    )


def best_confirmed(confirmed: Sequence[Confirmed], response: Response) -> Structure:
    """The one with the best score; of equal ones the first, the better predicted."""

    def value(one: Confirmed) -> float:
        score = getattr(one, response)
        assert score is not None
        return oriented(float(score), response)

    return max((one for one in confirmed if one.status == "done"), key=value).structure
