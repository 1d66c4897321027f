"""The accuracy model: from trials to the predicted accuracy of any structure (section 4.2).

What trials have tried at each stage: beyond it a prediction is an extrapolation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from genets.core.errors import GenetsError, unknown_name
from genets.nas.accuracy.bayes import TREND_MEAN, TREND_STD, BayesEffects, LeaveOneOut
from genets.nas.accuracy.gaussian import Floats
from genets.nas.accuracy.observations import Observations
from genets.nas.accuracy.paper_formula import PaperEffects
from genets.nas.accuracy.undecided import UndecidedChoice, undecided_choices
from genets.nas.study.records import TrainedCandidate, Trial, TrialResult
from genets.structure import Block, Structure, SuperBlock
from genets.training.score import Metric

Form = Literal["bayes", "paper"]
FORMS: tuple[Form, ...] = ("bayes", "paper")

LEAST_ERROR = 0.01  # stands for the error of a MasterNet that makes (almost) none


FailedBlocks = frozenset[tuple[int, Block]]  # at a super-block, counted from 0


class Effects(Protocol):
    """What a form of the regression gives: `BayesEffects`, `PaperEffects`."""

    def stage(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats: ...

    def std(self, structure: Structure) -> float: ...

    def leave_one_out(self) -> LeaveOneOut | None: ...

    def gradients(self) -> list[dict[str, object]]: ...

    def warnings(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted change of value against the MasterNet, and its standard deviation.

    The value is top-1 (0 to 1) or minus the cross-entropy (nats): more is better.
    `std` is that of the change, without the noise of measuring it; NaN where the form has none.
    """

    mean: float
    std: float
    master_value: float

    @property
    def value(self) -> float:
        """The MasterNet's value and the change."""
        return self.master_value + self.mean


@dataclass(frozen=True, eq=False)
class AccuracyModel:
    """A fitted model. Make one with `AccuracyModel.fit`.

    master_value: the MasterNet's, of which more is better.
    excluded: the results that are not used, as they failed or are not finite.
    failed: blocks of which every trial at a super-block is excluded. Nothing is known of them
        there but that they fail, so they are not selected.
    tried: what the predictions rest on; see `TriedRange.outside`.
    """

    master: Structure
    master_value: float
    metric: Metric
    form: Form
    effects: Effects
    trials: int
    excluded: tuple[TrialResult, ...]
    failed: FailedBlocks
    tried: TriedRange

    @classmethod
    def fit(
        cls,
        master: Structure,
        results: Sequence[TrialResult],
        master_score: float,
        *,
        metric: Metric | str = Metric.TOP1,
        form: Form = "bayes",
        trend: tuple[float, float] = (TREND_MEAN, TREND_STD),
        confirmed: Sequence[TrainedCandidate] = (),
    ) -> AccuracyModel:
        """Fit to the results of trials; their order does not matter.

        master_score: the trained MasterNet's own top-1 (0 to 1) or cross-entropy (nats) on the
            images that the trials were scored on.
        form: "bayes", or "paper" for the literal formula of section 4.2.
        trend: for "bayes" the prior mean and standard deviation of the gain from e times the
            multiply-adds, as a share of the MasterNet's error.
        confirmed: structures trained from scratch, which "bayes" is fitted to as well; "paper" is
            literal.
        Raises GenetsError where no result has a finite score.
        """
        metric = Metric.parse(metric)
        if form not in FORMS:
            raise GenetsError(unknown_name("regression", form, FORMS))
        if not (math.isfinite(master_score) and master_score >= 0):
            raise GenetsError(
                f"master_score must be a {metric.label} of at least 0, not {master_score}"
            )
        observations = Observations.collect(master, results, metric, confirmed)
        value = metric.oriented(master_score)
        effects: Effects
        if form == "paper":
            effects = PaperEffects.fit(master, observations, value)
        else:
            error = 1 - master_score if metric.higher_is_better else master_score
            error = max(error, LEAST_ERROR)
            effects = BayesEffects.fit(master, observations, value, error, trend)
        used, excluded = len(observations.trials), observations.excluded
        failed = _failed(master, observations)
        tried = TriedRange.of(master, observations.trials)
        return cls(master, value, metric, form, effects, used, excluded, failed, tried)

    def predict(self, structure: Structure) -> Prediction:
        """The sum of `stage_gain` over all stages.

        Always at the MasterNet's resolution: pseudo-gradients serve every resolution (paper,
        section 4.2, Searching for Resolution).
        Raises GenetsError for another number of super-blocks.
        """
        places = len(self.master.super_blocks)
        if len(structure.super_blocks) != places:
            raise GenetsError(
                f"a structure to predict must have the MasterNet's {places} super-blocks, "
                f"not {len(structure.super_blocks)}"
            )
        mean = sum(
            float(
                self.effects.stage(index, [structure.input_width(index)], [structure.stage(index)])[
                    0, 0
                ]
            )
            for index in structure.indices
        )
        return Prediction(mean, self.effects.std(structure), self.master_value)

    def stage_gain(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): what each adds, as stage `index`, to the predicted change.

        0 for the MasterNet's own stage behind its own input width.
        """
        return np.asarray(self.effects.stage(index, input_widths, super_blocks))

    def leave_one_out(self) -> LeaveOneOut | None:
        """How well trials are predicted from the others; None for the paper's form."""
        return self.effects.leave_one_out()

    def warnings(self) -> list[str]:
        """One sentence for each thing that the trials do not support."""
        return [*self.trial_warnings(), *map(str, self.undecided_choices())]

    def undecided_choices(self) -> list[UndecidedChoice]:
        """Choices of a block that are within noise; the paper's form knows of none."""
        if not isinstance(self.effects, BayesEffects):
            return []
        return undecided_choices(self.effects, self.metric.unit)

    def trial_warnings(self) -> list[str]:
        """All warnings but close calls."""
        found = self.effects.warnings()
        if self.excluded:
            total = self.trials + len(self.excluded)
            found.insert(0, f"{len(self.excluded)} of {total} trials failed and are left out")
        found += [
            f"every trial of {block} in {self.master.stage_name(index)} failed; it is not selected "
            "there"
            for index, block in sorted(self.failed)
        ]
        return found

    def to_json(self) -> dict[str, object]:
        """A summary for files: pseudo-gradients with standard deviations, errors, warnings."""
        left_out = self.leave_one_out()
        return {
            "form": self.form,
            "metric": self.metric,
            "master_value": self.master_value,
            "trials": self.trials,
            "excluded": len(self.excluded),
            "leave_one_out_rmse": left_out and left_out.rmse,
            "leave_one_out_spearman": left_out and left_out.spearman,
            "pseudo_gradients": self.effects.gradients(),
            "warnings": self.warnings(),
        }


def _failed(master: Structure, observations: Observations) -> FailedBlocks:
    """The MasterNet's own blocks are never among them: there they were trained."""
    failed = {(r.trial.index, r.trial.super_block.block) for r in observations.excluded}
    used = {(trial.index, trial.super_block.block) for trial in observations.trials}
    own = {(index, master.stage(index).block) for index in master.indices}
    return frozenset(failed - used - own)


@dataclass(frozen=True)
class TriedRange:
    """By stage what finished trials had in its place, the MasterNet's own included."""

    master: Structure
    tried: Mapping[int, Sequence[SuperBlock]]

    @classmethod
    def of(cls, master: Structure, trials: Sequence[Trial]) -> TriedRange:
        tried = {
            index: [master.stage(index), *(t.super_block for t in trials if t.index == index)]
            for index in master.indices
        }
        return cls(master, tried)

    def outside(self, structure: Structure) -> tuple[str, ...]:
        """A few words on each stage of `structure` that goes beyond the trials there."""
        return tuple(
            words
            for index in structure.indices
            for words in self._beyond(index, structure.stage(index))
        )

    def _beyond(self, index: int, there: SuperBlock) -> Iterator[str]:
        name, tried = self.master.stage_name(index), self.tried[index]
        if there.block not in {one.block for one in tried}:
            yield f"{name}: no trial of {there.block}"
        for what in ("depth", "width"):
            value, values = getattr(there, what), [getattr(one, what) for one in tried]
            least, most = min(values), max(values)
            if not least <= value <= most:
                yield f"{name}: {what} {value}, tried {least} to {most}"
