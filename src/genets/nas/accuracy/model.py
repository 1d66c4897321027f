"""The accuracy model: from trials to the predicted metric of any structure (paper, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from genets.core.errors import GenetsError, unknown_name
from genets.nas.accuracy.bayes import BayesEffects, LeaveOneOut
from genets.nas.accuracy.gaussian import Floats
from genets.nas.accuracy.observations import LogErrors, Observations, PredictedFall
from genets.nas.accuracy.paper_formula import PaperEffects
from genets.nas.accuracy.undecided import UndecidedChoice, undecided_choices
from genets.nas.study.records import TrainedCandidate, TrialResult
from genets.structure import Block, Structure, SuperBlock
from genets.training.score import Metric

Form = Literal["bayes", "paper"]
FORMS: tuple[Form, ...] = ("bayes", "paper")

FailedBlocks = frozenset[tuple[int, Block]]  # the index of a super-block, from 0, and a block


class Effects(Protocol):
    """The methods of a form of the regression: `BayesEffects` or `PaperEffects`."""

    def stage_gain(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats: ...

    def predict(self, structure: Structure) -> PredictedFall | float: ...

    def leave_one_out(self) -> LeaveOneOut | None: ...

    def gradients(self) -> list[dict[str, object]]: ...

    def warnings(self) -> list[str]: ...


DEVIATIONS_95 = 1.96  # standard deviations of a normal distribution to either side: 95 %


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted gain of a structure over the MasterNet.

    Attributes:
        mean: the gain, in top-1 (0 to 1) or nats of cross-entropy; positive is better. For the
            form "bayes" it is the median, because the log of the error is normal.
        std: standard deviation of the gain to first order, without the noise of a measured score;
            NaN for the literal formula of the paper, which has none.
        master_value: the MasterNet's top-1, or minus its cross-entropy.
        fall: the distribution of the log of the error; None for the formula of the paper.
    """

    mean: float
    std: float
    master_value: float
    fall: PredictedFall | None = None

    @property
    def value(self) -> float:
        """The predicted top-1, or minus the predicted cross-entropy."""
        return self.master_value + self.mean

    @property
    def order(self) -> float:
        """A number that is larger for a better structure.

        Unlike the gain, which ends where nothing is wrong any more, it has no limit.
        """
        return self.mean if self.fall is None else self.fall.mean

    def interval(self, deviations: float = DEVIATIONS_95) -> tuple[float, float]:
        """The interval of `value`, without the noise of a measured score.

        It reaches so many standard deviations of the log of the error to either side, and never
        beyond a possible value. So it is wider on the side of the larger error.

        Args:
            deviations: by default those of a 95 % interval.

        Returns:
            The lower and the upper end; NaN for the literal formula of the paper.
        """
        if self.fall is None:
            half = deviations * self.std
            return self.value - half, self.value + half
        low, high = self.fall.interval(deviations)
        return self.master_value + low, self.master_value + high


@dataclass(frozen=True, eq=False)
class AccuracyModel:
    """Predicts the metric of any structure of a search space. Use `AccuracyModel.fit`.

    Attributes:
        master: the MasterNet.
        master_value: its metric, oriented so that higher is better.
        metric: the metric that is predicted.
        form: "bayes", or "paper" for the literal formula of section 4.2.
        effects: the fitted effects.
        num_trials: the number of trials in the fit.
        excluded: the results of this round that are left out of the fit, because they failed or
            are not finite.
        failed: blocks whose trials at a super-block are all excluded, in all rounds. Nothing else
            is known about them there, so they are not selected.
        tried: the range of the trials; see `TriedRange.outside`.
    """

    master: Structure
    master_value: float
    metric: Metric
    form: Form
    effects: Effects
    num_trials: int
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
        candidates: Sequence[TrainedCandidate] = (),
        earlier: Sequence[tuple[Structure, Sequence[TrialResult]]] = (),
        images: float | None = None,
        inherited: bool = False,
    ) -> AccuracyModel:
        """Fit the model to the results of trials.

        Args:
            master: the MasterNet of the trials.
            results: the results of the trials; their order does not matter.
            master_score: the trained MasterNet's own score by the metric, on the images that the
                trials were scored on.
            metric: the metric to predict.
            form: "bayes", or "paper" for the literal formula of section 4.2.
            candidates: structures that were trained as candidates. The form "bayes" is fitted to
                these too; "paper" is literal and ignores them. Where weights are inherited, the
                first MasterNet may be among them; it is left out, because its training is that
                of no other candidate.
            earlier: the MasterNet and the results of each earlier round; "paper" ignores them.
            images: the number of images that all scores are of, see `Score.images_of`; None where
                it is not known.
            inherited: whether trials and candidates inherit weights. The form "bayes" then has an
                effect of lost projections, see `features`.

        Raises:
            GenetsError: no result has a finite score, or an argument is not valid.
        """
        metric = Metric.parse(metric)
        if form not in FORMS:
            raise GenetsError(unknown_name("regression", form, FORMS))
        if not (math.isfinite(master_score) and master_score >= 0):
            raise GenetsError(
                f"master_score must be a {metric.label} of at least 0, not {master_score}"
            )
        if inherited:
            first = earlier[0][0] if earlier else master
            candidates = [each for each in candidates if each.structure != first]
        observations = Observations.collect(master, results, metric, candidates, earlier)
        value = metric.oriented(master_score)
        effects: Effects
        if form == "paper":
            effects = PaperEffects.fit(master, observations, value)
        else:
            log_errors = LogErrors(metric, value, images)
            effects = BayesEffects.fit(master, observations, log_errors, inherited=inherited)
        return cls(
            master,
            value,
            metric,
            form,
            effects,
            len(observations.trials),
            observations.excluded,
            _failed_blocks(master, observations),
            TriedRange.collect(master, observations),
        )

    def predict(self, structure: Structure) -> Prediction:
        """Predict the gain of a structure.

        The prediction is for the MasterNet's resolution. Pseudo-gradients serve every resolution
        (paper, section 4.2, Searching for Resolution).

        Raises:
            GenetsError: the structure has another number of super-blocks than the MasterNet.
        """
        count = len(self.master.super_blocks)
        if len(structure.super_blocks) != count:
            raise GenetsError(
                f"a structure to predict must have the MasterNet's {count} super-blocks, "
                f"not {len(structure.super_blocks)}"
            )
        predicted = self.effects.predict(structure)
        if isinstance(predicted, float):
            return Prediction(predicted, math.nan, self.master_value)
        return Prediction(*predicted.gain, self.master_value, predicted)

    def stage_gain(
        self, index: int, input_widths: Sequence[int], super_blocks: Sequence[SuperBlock]
    ) -> Floats:
        """(input widths, super-blocks): the predicted gain of each super-block as stage `index`.

        It is 0 for the MasterNet's own stage with its own input width. The form "bayes" predicts
        the log of the error. Its sum over the stages leaves out the misfit, which `predict` adds.
        """
        return np.asarray(self.effects.stage_gain(index, input_widths, super_blocks))

    def leave_one_out(self) -> LeaveOneOut | None:
        """How well each trial is predicted from all others.

        None for the form "paper", and without trials.
        """
        return self.effects.leave_one_out()

    def warnings(self) -> list[str]:
        """All warnings about the trials, one sentence each."""
        return [*self.trial_warnings(), *map(str, self.undecided_choices())]

    def undecided_choices(self) -> list[UndecidedChoice]:
        """Choices of a block that are within noise; none for the form "paper"."""
        if not isinstance(self.effects, BayesEffects):
            return []
        return undecided_choices(self.effects)

    def trial_warnings(self) -> list[str]:
        """Warnings about failed, missing or inconsistent trials, without the undecided choices."""
        warnings = self.effects.warnings()
        if self.excluded:
            total = self.num_trials + len(self.excluded)
            warnings.insert(0, f"{len(self.excluded)} of {total} trials failed and are left out")
        warnings += [
            f"every trial of {block} in {self.master.stage_name(index)} failed, so this block is "
            "not selected there"
            for index, block in sorted(self.failed)
        ]
        return warnings

    def to_json(self) -> dict[str, object]:
        """A summary for files: pseudo-gradients with standard deviations, errors, warnings."""
        left_out = self.leave_one_out()
        return {
            "form": self.form,
            "metric": self.metric,
            "response": self.metric,  # the name before version 0.2
            "master_value": self.master_value,
            "trials": self.num_trials,
            "excluded": len(self.excluded),
            "leave_one_out_rmse": left_out and left_out.rmse,
            "leave_one_out_spearman": left_out and left_out.spearman,
            "pseudo_gradients": self.effects.gradients(),
            "warnings": self.warnings(),
        }


def _failed_blocks(master: Structure, observations: Observations) -> FailedBlocks:
    """Blocks with trials of which none is usable, in all rounds.

    The own blocks of the MasterNets were trained in the MasterNets.
    """
    earlier = observations.earlier
    excluded = [observations.excluded, *(each.excluded for each in earlier)]
    failed = {(r.trial.index, r.trial.super_block.block) for results in excluded for r in results}
    rounds = [observations.trials, *(each.trials for each in earlier)]
    used = {(trial.index, trial.super_block.block) for trials in rounds for trial in trials}
    masters = [master, *(each.master for each in earlier)]
    own = {(index, each.stage(index).block) for each in masters for index in each.indices}
    return frozenset(failed - used - own)


@dataclass(frozen=True)
class TriedRange:
    """The options that trials had at each stage; beyond them, predictions are extrapolations.

    Attributes:
        master: the MasterNet.
        tried: by stage the super-blocks of all finished trials, of the trained structures and of
            the MasterNets.
    """

    master: Structure
    tried: Mapping[int, Sequence[SuperBlock]]

    @classmethod
    def collect(cls, master: Structure, observations: Observations) -> TriedRange:
        tried = {index: [master.stage(index)] for index in master.indices}
        for trial in observations.trials:
            tried[trial.index].append(trial.super_block)
        for structure in observations.candidates:
            for index in master.indices:
                tried[index].append(structure.stage(index))
        for each in observations.earlier:
            for index in master.indices:
                tried[index].append(each.master.stage(index))
            for trial in each.trials:
                tried[trial.index].append(trial.super_block)
        return cls(master, tried)

    def outside(self, structure: Structure) -> tuple[str, ...]:
        """One phrase for each property of a structure that is outside the range of the trials."""
        return tuple(
            phrase
            for index in structure.indices
            for phrase in self._stage_outside(index, structure.stage(index))
        )

    def _stage_outside(self, index: int, stage: SuperBlock) -> Iterator[str]:
        name, tried = self.master.stage_name(index), self.tried[index]
        if stage.block not in {other.block for other in tried}:
            yield f"{name}: no trial used the block {stage.block}"
        for field in ("depth", "width"):
            value, values = getattr(stage, field), [getattr(other, field) for other in tried]
            if not min(values) <= value <= max(values):
                tried_range = f"{min(values)} to {max(values)}"
                yield f"{name}: {field} {value} is outside the tried range ({tried_range})"
