"""A rival: its starting weights, the settings of its training, and its check."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from genets.analysis.comparison.networks import ComparedNetwork
from genets.core.errors import GenetsError
from genets.latency.engines.base import check_resolution
from genets.nas.settings.final_training import epochs_of_winner
from genets.nas.settings.rival_names import SCRATCH, RivalName, expand_rivals
from genets.nas.settings.settings import SearchSettings
from genets.nas.study import layout
from genets.networks import resolve_network
from genets.training import RunRecipe, RunSettings, make_recipe, named_recipe
from genets.training.recipe import apply_changes

CHECKED_CLASSES = 2  # of a rival that is checked before the images are read
# The advice of `resolve_network` about weights, which has no meaning for a rival.
OTHER_ADVICE = ("; leave pretrained out", "; a file can be used instead")


@dataclass(frozen=True)
class Rival:
    """A rival of a search.

    Attributes:
        name: The rival as it was asked for.
        run: The settings of its training.
    """

    name: RivalName
    run: RunSettings

    @classmethod
    def make(cls, name: RivalName, settings: SearchSettings, resolution: int) -> Rival:
        """Make the settings of its training. Raises GenetsError."""
        fresh = name.weights == SCRATCH
        own = RunSettings(network=name.network, data=settings.data, recipe=_recipe(settings, True))
        has_weights = bool(own.weights)  # a results folder
        if fresh and has_weights:
            raise GenetsError("a results folder has weights of its own; name its structure instead")
        return cls(
            name,
            RunSettings(
                network=name.network,
                data=settings.data,
                recipe=_recipe(settings, fresh),
                recipe_name="" if fresh else "finetune",
                resolution=resolution,
                seed=settings.seed,
                pretrained=not (fresh or has_weights or name.weights),
                weights="" if fresh else name.weights,
                max_broken_share=settings.max_broken_share,
                metric=settings.metric,
            ),
        )

    @property
    def resolution(self) -> int:
        assert self.run.resolution is not None
        return self.run.resolution

    @property
    def start(self) -> str:
        """The start of its training in a word or two."""
        if self.run.pretrained:
            return "published"
        if not self.run.weights:
            return "fresh"
        return "file" if self.name.weights else "results folder"

    def run_on(self, images: int) -> RunSettings:
        """The settings of its training, with a batch of at most `images` images."""
        recipe = self.run.recipe
        if recipe.batch_size <= images:
            return self.run
        largest = 2 ** (images.bit_length() - 1)  # mix-up needs an even number
        return replace(self.run, recipe=replace(recipe, batch_size=largest))

    def for_timing(self, num_classes: int) -> ComparedNetwork:
        """The network that is measured; its weights are for timing."""
        network = self.run.network
        return ComparedNetwork(
            str(self.name),
            "",
            self.resolution,
            lambda: resolve_network(network, num_classes).network,
        )

    def check(self) -> None:
        """Load the starting weights, and run the network. Raises GenetsError."""
        source = resolve_network(
            self.run.network,
            CHECKED_CLASSES,
            pretrained=self.run.pretrained,
            weights=self.run.weights or None,
            fit="new classifier",
            seed=0,
        )
        check_resolution(source.network, self.resolution)
        _ = self.for_timing(CHECKED_CLASSES).size


def _recipe(settings: SearchSettings, fresh: bool) -> RunRecipe:
    """The recipe of a rival, with the epochs of the winner.

    Fresh weights take the winner's recipe, and trained weights the recipe `finetune`.
    """
    final, epochs = settings.final_training.recipe(), epochs_of_winner(settings)
    if fresh:
        return make_recipe(asdict(final) | {"epochs": epochs})
    changes = {"epochs": epochs, "class_weights": final.class_weights}
    fields = apply_changes(named_recipe("finetune"), changes)
    return make_recipe(fields | {"precision": final.precision})


def check_rivals(settings: SearchSettings, folder: Path) -> None:
    """Check the rivals of a search before anything is measured.

    A rival that the study has trained already is not checked. Rivals of `default` without weights
    at hand, and those that do not take the MasterNet's input size, are left out; a warning names
    them.

    Args:
        settings: The settings of the search.
        folder: The folder of the study, which may not exist.

    Raises:
        GenetsError: A rival is no network, has no weights at hand, or cannot be used; or no rival
            is left.
    """
    names = expand_rivals(settings.rivals)
    left_out: dict[str, GenetsError] = {}
    for name in names:
        if _is_trained(name, settings, folder):
            continue
        try:
            Rival.make(name, settings, settings.resolution).check()
        except GenetsError as error:
            if not name.is_default:
                raise GenetsError(_refusal(name, error)) from error
            left_out[str(name)] = error
    if not left_out:
        return
    reason = f"{', '.join(left_out)} ({next(iter(left_out.values()))})"
    if len(left_out) == len(names):
        raise GenetsError(
            f"none of the default rivals can be compared: {reason}; name rivals with files of "
            f"weights, such as --rivals {names[0]}=FILE, or search without rivals"
        )
    warnings.warn(f"rivals are left out: {reason}", stacklevel=4)


def _is_trained(name: RivalName, settings: SearchSettings, folder: Path) -> bool:
    resolutions = settings.space.design_space().around(settings.structure).resolutions
    paths = (layout.rival_path(str(name), r if r != settings.resolution else None)
             for r in resolutions)  # fmt: skip
    return any((folder / f"{path}.json").is_file() for path in paths)


def _refusal(name: RivalName, error: GenetsError) -> str:
    """The sentence that refuses a rival."""
    reason, network = str(error), shlex.quote(name.network)
    if name.weights or "pretrained" not in reason:
        return f"rival {name}: {reason}"
    for advice in OTHER_ADVICE:
        reason = reason.partition(advice)[0]
    return (
        f"rival {name}: {reason}; give a file of weights (--rivals {network}=FILE), or train the "
        f"network from fresh weights (--rivals {network}={SCRATCH})"
    )
