"""Recipe fields that are `auto`: the short trainings that decide them."""

import copy
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_together import Blobs, small_net
from test_train_network import NETWORK, PLAIN, KilledError, assert_equal, run, weights
from test_train_network import kill_at as kill_at

from genets.core.errors import GenetsError, TrainingError
from genets.core.progress import Progress
from genets.data import load_data
from genets.data.split import Fold
from genets.networks import build, save_weights
from genets.structure import Structure
from genets.training import (
    Listener,
    Recipe,
    RunRecipe,
    RunSettings,
    evaluate,
    make_recipe,
    named_recipe,
    short_trainings,
    train,
    train_on,
)
from genets.training.floor import Judge
from genets.training.linear_start import set_classifier
from genets.training.loop import Training
from genets.training.run.folder import load_settings, load_variants
from genets.training.short_trainings import (
    folds_to_decide,
    steps_of_variant,
    steps_of_variants,
    try_variants,
)
from genets.training.train_network import train_network
from genets.training.variants import (
    OF_BATCH,
    OF_FROZEN,
    RATES,
    Variant,
    best_variant,
    describe_variants,
    is_decided,
    join_folds,
    variants_of,
)

TINY = Structure.parse(NETWORK)
AUTO = RunRecipe(
    epochs=2,
    batch_size=64,
    learning_rate="auto",
    optimizer="adamw",
    norm_statistics="auto",
    precision="fp32",
)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", TINY.resolution)


@pytest.fixture(scope="module")
def net(data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(TINY, 10)
    train(net, data.train, Recipe(epochs=3, learning_rate=0.8), seed=0)
    return net


@pytest.fixture
def short(monkeypatch):
    """Short trainings of three steps."""
    monkeypatch.setattr(short_trainings, "MIN_STEPS", 3)
    monkeypatch.setattr(short_trainings, "MAX_STEPS", 3)


def pairs(recipe):
    return [(each.learning_rate, each.norm_statistics) for each in variants_of(recipe)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_variants_have_every_value_of_the_fields_that_are_auto(optimizer):
    rates = RATES[optimizer]
    both = replace(AUTO, optimizer=optimizer)
    assert pairs(both) == [
        *((rate, "frozen") for rate in rates[OF_FROZEN]),
        *((rate, "batch") for rate in rates[OF_BATCH]),
    ]
    assert pairs(replace(both, norm_statistics="batch")) == [(rate, "batch") for rate in rates]
    assert pairs(replace(both, learning_rate=0.3)) == [(0.3, "frozen"), (0.3, "batch")]
    decided = replace(both, learning_rate=0.3, norm_statistics="frozen")
    assert pairs(decided) == [(0.3, "frozen")]
    assert [is_decided(each) for each in (both, replace(both, learning_rate=0.3), decided)] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("epochs", "images", "steps"),
    [(1, 40, 1), (10, 640, 50), (20, 64 * 100, 200), (100, 64 * 1000, 1000)],
)
def test_a_short_training_has_a_tenth_of_the_steps_within_limits(epochs, images, steps):
    recipe = replace(AUTO, epochs=epochs)
    assert steps_of_variant(recipe, images) == steps
    assert steps_of_variants(recipe, images) == 6 * steps
    assert steps_of_variants(Variant(0.1, "batch").of(recipe), images) == 0


def test_the_recipe_finetune_leaves_both_fields_to_short_trainings():
    recipe = make_recipe(named_recipe("finetune"))
    assert (recipe.learning_rate, recipe.norm_statistics) == ("auto", "auto")
    assert make_recipe({"epochs": 1}).learning_rate == 0.1


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_training_ends_after_the_given_steps(steps):
    """Four steps in an epoch; the learning rate falls over the given steps alone."""
    recipe = RunRecipe(epochs=1, batch_size=16, learning_rate=0.5, label_smoothing=0.0)
    net, images = small_net(0), Blobs()
    training = Training([net], images, recipe, seed=1, steps=steps)
    assert len(list(training.epochs())) == math.ceil(steps / 4)
    assert images.reads == steps
    if steps % 4 == 0:
        same = small_net(0)
        train(same, Blobs(), replace(recipe, epochs=steps // 4), seed=1)
        assert_equal(net.state_dict(), same.state_dict())


def test_each_variant_is_trained_as_it_would_be_alone(net, data, short):
    tried = try_variants(net, data, AUTO, seed=5)
    assert [replace(each, cross_entropy=None) for each in tried] == variants_of(AUTO)
    for variant in tried[1::3]:
        alone = copy.deepcopy(net)
        training = Training([alone], data.train, variant.of(AUTO), seed=5, steps=3)
        list(training.epochs())
        assert variant.cross_entropy == evaluate(alone, data.validation, 64).cross_entropy
    lowest = min(tried, key=lambda each: each.cross_entropy)
    assert best_variant(tried) == lowest
    assert describe_variants(tried) == (
        f"the best of 6 short trainings had learning_rate {lowest.learning_rate:g} and "
        f"norm_statistics {lowest.norm_statistics}"
    )


def test_the_network_and_the_generators_do_not_change(net, data, short):
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    try_variants(net, data, replace(AUTO, linear_start=True), seed=5)
    assert_equal(net.state_dict(), before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_short_trainings_begin_with_the_linear_start(net, data, monkeypatch):
    """With a learning rate of almost nothing, each variant scores as the linear start does."""
    monkeypatch.setitem(RATES, "adamw", (1e-30,) * 5)
    recipe = replace(AUTO, linear_start=True, norm_statistics="frozen", weight_decay=0.0)
    net = copy.deepcopy(net)
    set_classifier(net, torch.zeros(10, 32), torch.zeros(10))
    start = copy.deepcopy(net)
    train(
        start, data.train, replace(recipe, learning_rate=1e-30, epochs=1), seed=0,
        num_classes=10, judge=Judge(data.validation),
    )  # fmt: skip
    expected = evaluate(start, data.validation, 64).cross_entropy
    assert expected != pytest.approx(math.log(10)), "of the classifier of zeros"
    for variant in try_variants(net, data, recipe, seed=0):
        assert variant.cross_entropy == pytest.approx(expected)


def test_a_variant_whose_loss_becomes_nan_has_no_score(net, data, short, monkeypatch):
    monkeypatch.setitem(RATES, "sgd", (0.01, 0.1, 1e30))
    recipe = replace(AUTO, optimizer="sgd", norm_statistics="batch")
    *fine, failed = try_variants(net, data, recipe, seed=0)
    assert failed.cross_entropy is None
    assert best_variant([failed, *fine]) in fine
    monkeypatch.setitem(RATES, "sgd", (1e30, 1e31))
    message = r"failed, with a learning_rate of 1e\+30, 1e\+31 \(.* cross-entropy is nan\); give"
    with pytest.raises(TrainingError, match=message):
        try_variants(net, data, recipe, seed=0)


def test_starting_weights_without_finite_features_are_named(net, data, short):
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken.stem.conv.weight.fill_(math.inf)
    with pytest.raises(TrainingError, match="features that are not finite"):
        try_variants(broken, data, replace(AUTO, linear_start=True), seed=0)


@pytest.fixture
def memory(monkeypatch):
    """Limits the number of copies for which the memory suffices."""

    def limit(copies):
        class Limited(Training):
            def __init__(self, nets, *words, **options):
                if len(nets) > copies:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                super().__init__(nets, *words, **options)

        monkeypatch.setattr(short_trainings, "Training", Limited)

    return limit


def test_fewer_copies_are_trained_at_a_time_where_memory_runs_out(net, data, short, memory):
    expected = try_variants(net, data, AUTO, seed=5)
    memory(2)
    assert try_variants(net, data, AUTO, seed=5) == expected


def test_a_lack_of_memory_is_one_sentence(tmp_path, memory):
    memory(0)
    message = "memory ran out with 256 images in a batch during the short trainings; --batch-size"
    with pytest.raises(TrainingError, match=message):
        run(tmp_path, RUN)


RUN = replace(PLAIN, learning_rate="auto", norm_statistics="auto", optimizer="adamw")


def test_a_run_stores_the_short_trainings(tmp_path, short):
    result = run(tmp_path, RUN)
    best = best_variant(load_variants(tmp_path))
    assert result.notes == (f"the best of 6 short trainings had {best}",)
    assert load_settings(tmp_path).recipe == replace(RUN, precision="fp32")
    stored = json.loads((result.results / "result.json").read_text())["settings"]["recipe"]
    assert stored["learning_rate"] == best.learning_rate
    other = tmp_path / "other"
    run(other, best.of(RUN))
    assert_equal(weights(tmp_path), weights(other))


def test_the_progress_counts_the_steps(tmp_path, short):
    seen = []
    listener = Listener(progress=seen.append)
    train_network(
        RunSettings(network=NETWORK, data="digits", recipe=RUN), tmp_path, device="cpu",
        listener=listener,
    )  # fmt: skip
    words = "6 variants of learning_rate and norm_statistics"
    assert seen[:4] == [Progress("short trainings", done, 3, words) for done in range(4)]


@pytest.mark.parametrize("step", [1, 6])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, short, kill_at, monkeypatch, step):
    """The decision is kept, also before the first checkpoint."""
    expected = tmp_path / "whole"
    run(expected, RUN)
    kill_at(step)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", RUN)
    monkeypatch.setattr(short_trainings, "Training", None)
    run(tmp_path / "killed", RUN)
    assert_equal(weights(tmp_path / "killed"), weights(expected))


def list_with_another_best(path):
    """Rewrite the short trainings as an older genets stored them, and return the best variant."""
    best, *others = json.loads(path.read_text())["variants"][::-1]
    rows = [{**best, "cross_entropy": 0.1}, *({**each, "cross_entropy": 9.0} for each in others)]
    path.write_text(json.dumps(rows))
    return Variant(**rows[0])


def test_the_decision_of_an_older_genets_holds_with_a_checkpoint(tmp_path, short, kill_at):
    """Such a decision has no conditions, so without a checkpoint it may be of other settings."""
    path = tmp_path / "short_trainings.json"
    kill_at(1)
    with pytest.raises(KilledError):
        run(tmp_path, RUN)
    before = path.read_text()
    list_with_another_best(path)
    kill_at(6)
    with pytest.raises(KilledError):
        run(tmp_path, RUN)
    assert path.read_text() == before
    best = list_with_another_best(path)
    kill_at(10**5)
    results = run(tmp_path, RUN).results
    recipe = json.loads((results / "result.json").read_text())["settings"]["recipe"]
    assert recipe["learning_rate"] == best.learning_rate


def test_a_run_of_an_older_genets_keeps_its_numbers(tmp_path, kill_at, monkeypatch):
    """Such a run has numbers where the recipe now has `auto`."""
    kill_at(6)
    with pytest.raises(KilledError):
        run(tmp_path, PLAIN)
    monkeypatch.setattr(short_trainings, "Training", None)
    kill_at(10**5)
    run(tmp_path, replace(PLAIN, learning_rate="auto", norm_statistics="auto"))
    assert load_settings(tmp_path).recipe == replace(PLAIN, precision="fp32")


@pytest.mark.parametrize("content", ["[]", "{", '[{"learning_rate": 1}]', None])
def test_a_lost_decision_is_one_sentence(tmp_path, short, kill_at, content):
    kill_at(6)
    with pytest.raises(KilledError):
        run(tmp_path, RUN)
    path = tmp_path / "short_trainings.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(TrainingError, match=r"short_trainings\.json is (damaged|missing)"):
        run(tmp_path, RUN)


def test_other_settings_without_a_checkpoint_decide_anew(tmp_path, short, kill_at):
    kill_at(1)
    with pytest.raises(KilledError):
        run(tmp_path, RUN)
    kill_at(10**5)
    run(tmp_path, replace(RUN, optimizer="sgd"))
    assert {each.learning_rate for each in load_variants(tmp_path)} <= {*RATES["sgd"]}


def test_the_teacher_takes_part(net, data, short):
    def wrong(images):
        return torch.eye(10)[torch.zeros(len(images), dtype=torch.long)] * 9

    alone, taught = (try_variants(net, data, AUTO, seed=0, teacher=each) for each in (None, wrong))
    assert best_variant(alone).cross_entropy < best_variant(taught).cross_entropy


def test_training_on_a_data_set_decides_the_fields(net, data, short):
    """A training without a data set has no validation images, so it refuses them."""
    decided, fixed = (copy.deepcopy(net) for _ in range(2))
    recipe = replace(AUTO, epochs=1)
    train_on(decided, data, recipe, seed=5)
    best = best_variant(try_variants(net, data, recipe, seed=5))
    train_on(fixed, data, best.of(recipe), seed=5)
    assert_equal(decided.state_dict(), fixed.state_dict())
    with pytest.raises(GenetsError, match="learning_rate and norm_statistics must not be auto"):
        train(copy.deepcopy(net), data.train, recipe, seed=5)


@pytest.fixture
def photos(tmp_path):
    """Forty images of two classes, four of which cannot be read."""
    random = np.random.default_rng(0)
    for name, level in (("cats", 60), ("dogs", 180)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            path = tmp_path / "photos" / name / f"{number}.png"
            pixels = random.normal(level, 30, (16, 16, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(path)
            if number % 8 == 7:
                path.write_bytes(path.read_bytes()[:70])
    return str(tmp_path / "photos")


@pytest.fixture
def tried(monkeypatch):
    """The images of each call of `try_variants`, which prefers another variant in each fold."""
    seen = []

    def try_variants(net, data, recipe, *, on_step, **options):
        on_step(1, 1)
        names = [{*split.names()} for split in (data.train, data.validation)]
        for _ in data.train.batches(8, epoch=0):
            pass
        seen.append(names)
        return [
            replace(variant, cross_entropy=float((number - len(seen)) ** 2))
            for number, variant in enumerate(variants_of(recipe))
        ]

    monkeypatch.setattr("genets.training.run.decided_recipe.try_variants", try_variants)
    return seen


def run_on_photos(out, photos, **changes):
    phases, notes = [], []
    asked = RunSettings(
        network=NETWORK, data=photos, recipe=replace(RUN, epochs=1, batch_size=8),
        max_broken_share=0.5, **changes,
    )  # fmt: skip
    listener = Listener(progress=phases.append, note=notes.append)
    train_network(asked, out, device="cpu", listener=listener)
    steps = [each for each in phases if each.phase == "short trainings"]
    return steps, notes


def test_short_trainings_with_few_validation_images_are_cross_validated(
    tmp_path, photos, tried, monkeypatch
):
    monkeypatch.setattr(short_trainings, "MAX_SHARE", 1000)
    steps, notes = run_on_photos(tmp_path / "run", photos)
    words = "6 variants of learning_rate and norm_statistics"
    assert steps == [
        Progress("short trainings", number, 5, f"{words}, fold {number} of 5")
        for number in range(1, 6)
    ]
    data = load_data(photos, 16, check=False)
    images = {*data.train.names(), *data.validation.names()}
    broken = {name for name in images if any(name in note for note in notes)}
    for train_names, fold in tried:
        assert not train_names & fold
        assert (train_names | fold) - broken == images - broken
    # The sum of (number - fold)² over the folds 1 to 5 is least for the fourth variant.
    best = variants_of(RUN)[3]
    assert load_settings(tmp_path / "run").recipe.learning_rate == "auto"
    assert best_variant(load_variants(tmp_path / "run")).of(RUN) == best.of(RUN)
    assert f"the best of 6 short trainings had {best}; each was scored in 5 folds" in notes
    reported = [note for note in notes if "cannot be read (" in note]
    assert len(reported) == len({*reported}) == 4  # with one of the test split


def test_other_images_without_a_checkpoint_decide_anew(tmp_path, photos, tried, kill_at):
    first = Path(photos) / "cats" / "0.png"
    for number_of_decisions in (1, 1, 2):
        if number_of_decisions == 2:
            shutil.copy(first, first.with_name("another.png"))
        kill_at(1)
        with pytest.raises(KilledError):
            run_on_photos(tmp_path / "run", photos)
        assert len(tried) == number_of_decisions


@pytest.mark.parametrize(
    ("epochs", "folds"), [(1, 1), (66, 1), (67, 2), (100, 3), (134, 4), (167, 5), (2000, 5)]
)
def test_short_trainings_take_at_most_three_times_the_training(photos, epochs, folds):
    """Three steps in an epoch, and six variants of at least 50 steps."""
    data, recipe = load_data(photos, 16, check=False), replace(RUN, epochs=epochs, batch_size=8)
    decided_on = folds_to_decide(data, recipe)
    assert decided_on == ([Fold(number, 5) for number in range(folds)] if folds > 1 else [None])
    assert folds == 1 or folds * steps_of_variants(recipe, 26) <= 3 * 3 * epochs


def test_weights_that_have_seen_the_images_are_not_cross_validated(tmp_path, photos, tried):
    data = load_data(photos, 16, check=False)
    path = tmp_path / "own.safetensors"
    save_weights(build(TINY, 2), path, data.weights_metadata())
    steps, _ = run_on_photos(tmp_path / "run", photos, weights=str(path))
    assert [each.detail for each in steps] == ["6 variants of learning_rate and norm_statistics"]
    assert tried == [[{*data.train.names()}, {*data.validation.names()}]]


def test_a_variant_that_fails_in_a_fold_has_no_mean():
    scores = [(1.0, None, 5.0), (2.0, 0.1, 1.0)]
    folds = [[Variant(0.1, "batch", score) for score in fold] for fold in scores]
    assert [each.cross_entropy for each in join_folds(folds)] == [1.5, None, 3.0]
    failed = [[Variant(0.1, "batch", None)], [Variant(0.1, "batch", 1.0)]]
    with pytest.raises(TrainingError, match="each short training failed in a fold"):
        join_folds(failed)
