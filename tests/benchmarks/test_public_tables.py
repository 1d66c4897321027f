"""The figures of public tables, on small made-up tables, against brute force and closed forms."""

import csv
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

import public_tables
from genets.nas.accuracy.model import Prediction
from made_tables import write_accel, write_fbnet, write_macro
from public_tables import (
    METHODS,
    choose_by_model,
    choose_by_trees,
    judge,
    macro_ranks,
    macro_regrets,
    regrets,
    run_fbnet,
    search_accel,
    spearman_within_bands,
)
from table_lab import Outcome, search_macro
from tables import ACCEL, FBNET, MACRO, MACRO_STRIDES, MACRO_WIDTHS, read_accel, read_macro


def layers_of(folder: Path) -> list[str]:
    with (folder / MACRO).open() as file:
        return [row["layers"] for row in csv.DictReader(file)]


def counted(layers: str) -> int:
    """Multiply-adds by hand: the stem reads 64 x 64 pixels, the head has 1,280 channels."""
    total, width, pixels = 3 * 3 * 3 * 32 * 32 * 32, 32, 32
    for digit, channels, stride in zip(layers, MACRO_WIDTHS, MACRO_STRIDES, strict=False):
        before, pixels = pixels, pixels // stride
        if digit == "0":
            total += width * channels * pixels**2 * ((width, stride) != (channels, 1))
        else:
            kernel, ratio = {"1": (3, 3), "2": (5, 6)}[digit]
            inner = ratio * width
            total += width * inner * before**2
            total += (kernel**2 * inner + inner * channels) * pixels**2
        width = channels
    return total + width * 1280 * pixels**2


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_multiply_adds_have_the_closed_form(macro, tmp_path):
    assert macro.multiply_adds.tolist() == [counted(layers) for layers in layers_of(tmp_path)]


@pytest.mark.parametrize(
    ("layers", "published"),
    [("00000000", 7_713_280), ("00000001", 14_115_328)],
)
def test_multiply_adds_are_those_of_nas_bench_macro(tmp_path, layers, published):
    """The published numbers include the classifier of 10 classes."""
    header = ["layers", *(f"test_top1_seed{n}" for n in range(3))]
    write_rows(tmp_path / MACRO, [header, [layers, "45", "46", "47"]])
    table = read_macro(tmp_path)
    assert table.multiply_adds.tolist() == [published - 1280 * 10]
    assert table.truth == pytest.approx([0.46])


def test_the_regret_is_that_of_brute_force(macro):
    budgets = np.quantile(macro.multiply_adds, [0.3, 0.7])
    winners = [int(np.flatnonzero(macro.multiply_adds <= budget)[3]) for budget in budgets]
    found = regrets(macro, 1, budgets, [Outcome(row, 5 + n) for n, row in enumerate(winners)])
    assert found["trainings"] == 5.5
    for name, seen in (("regret", (0, 1, 2)), ("by unseen trainings", (0, 2))):
        for budget, winner, regret in zip(budgets, winners, found[name], strict=True):
            means = [100 * sum(row[n] for n in seen) / len(seen) for row in macro.scores]
            costs = macro.multiply_adds
            best = max(mean for mean, cost in zip(means, costs, strict=True) if cost <= budget)
            assert regret == pytest.approx(best - means[winner], abs=1e-9)


def test_a_winner_over_the_budget_is_refused(macro):
    largest = int(macro.multiply_adds.argmax())
    budgets = np.array([macro.multiply_adds[largest] - 1])
    with pytest.raises(AssertionError):
        regrets(macro, 0, budgets, [Outcome(largest, 1)])


def test_the_reported_regrets_are_those_of_the_table(macro, tmp_path):
    quantiles = (0.3, 0.8)
    found = macro_regrets(tmp_path, quantiles, METHODS, (7, 2))
    for number, quantile in enumerate(quantiles):
        budget = np.quantile(macro.multiply_adds, quantile)
        within = np.flatnonzero(macro.multiply_adds <= budget)
        best = macro.truth[within].max()
        expected = {
            "one training of all": max(within, key=lambda row: macro.scores[row, 2]),
            "most multiply-adds": max(within, key=lambda row: macro.multiply_adds[row]),
        }
        for name, row in expected.items():
            regret = 100 * (best - macro.truth[row])
            assert found[name]["regret"][number] == pytest.approx(regret, abs=1e-9)
    for name, row in found.items():
        assert min(row["regret"]) >= 0
        for method in METHODS:
            if name.endswith(f"as {method}"):
                assert row["trainings"] <= found[method]["trainings"]


@pytest.mark.parametrize("quantile", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("start", [0, 30, 77])
def test_the_best_network_is_found_where_effects_add_up(tmp_path, start, quantile):
    write_macro(tmp_path, noise=1e-3)  # less than the difference of any two networks below
    table = read_macro(tmp_path)
    budget = np.quantile(table.multiply_adds, quantile)
    within = np.flatnonzero(table.multiply_adds <= budget)
    best, second = np.sort(100 * table.truth[within])[[-1, -2]]
    assert best - second > 5e-3
    outcome = search_macro(table, start, 0, budget, METHODS["two rounds, four candidates"])
    assert outcome.winner == within[table.truth[within].argmax()]
    assert outcome.trainings < len(table.structures) / 2


def test_bands_hold_networks_of_similar_cost():
    """Predictions are right within each band, and wrong between bands."""
    rng = np.random.default_rng(0)
    band, place = np.divmod(np.arange(70), 7)
    cost = band + 0.01 * rng.permutation(70) / 70
    truth = 100.0 * band + place
    predicted = -100.0 * band + place
    order = rng.permutation(70)
    given = (predicted[order], truth[order], cost[order])
    assert spearman_within_bands(*given) == pytest.approx(1.0)
    assert kendalltau(predicted, truth).statistic < 0
    without_cost = (1e9, -1e9, np.nan)
    more = [np.append(*pair) for pair in zip(given, without_cost, strict=True)]
    assert spearman_within_bands(*more) == pytest.approx(1.0)


def test_bands_are_averaged():
    """In one of the ten bands, the order of three networks is reversed."""
    cost = np.repeat(np.arange(10.0), 3)
    truth = np.tile([1.0, 2.0, 3.0], 10)
    predicted = truth * np.where(cost == 4, -1, 1)
    assert spearman_within_bands(predicted, truth, cost) == pytest.approx((9 - 1) / 10)


def test_ranks_of_the_model_on_an_additive_table(tmp_path):
    write_macro(tmp_path, noise=1e-3)
    found = macro_ranks(tmp_path, (40, 1))
    assert 0.95 < found["spearman"] <= 1
    assert 0 <= found["spearman within bands"] <= 1
    assert set(found) > {"truths within the 68 % interval", "truths within the 95 % interval"}


def test_intervals_are_counted(macro):
    """A tenth of the truths is two standard deviations away, two tenths are 1.5 of them away."""

    class Model:
        def predict(self, structure):
            row = macro.number[structure]
            away = 2.0 if row % 10 == 0 else 1.5 if row % 10 in (1, 2) else 0.5
            return Prediction(macro.truth[row] - 0.9 + 0.01 * away, 0.01, 0.9)

    value, covered = judge(Model(), macro, range(80))
    assert value[1] == pytest.approx(macro.truth[1] + 0.015)
    assert covered == {
        "truths within the 68 % interval": pytest.approx(0.7),
        "truths within the 95 % interval": pytest.approx(0.9),
    }


def test_rows_of_accel_are_read(tmp_path):
    write_accel(tmp_path, networks=30, noise=1.0)
    table = read_accel(tmp_path)
    with (tmp_path / ACCEL).open() as file:
        rows = [*csv.DictReader(file)]
    assert len(table.structures) == len(rows) - 1  # one network occurs twice
    twice = [rows[0], rows[-1]]
    expected = np.mean([float(row["val_top1_percent"]) for row in twice])
    assert 100 * table.truth[0] == pytest.approx(expected)
    speeds = [float(row["a100_images_per_second"]) for row in twice]
    assert table.latency_ms["a100"][0] == pytest.approx(np.mean([1000 / s for s in speeds]))
    assert np.flatnonzero(np.isnan(table.latency_ms["vck190"])).tolist() == [1]
    for number, row in enumerate(rows[:-1]):
        for place, stage in enumerate(table.structures[number].super_blocks):
            names = ("expansion", "kernel", "depth")
            shape = [int(row[f"block{place}_{name}"]) for name in names]
            assert [stage.block.ratio, stage.block.kernel, stage.depth] == shape


@pytest.mark.parametrize("choose", [choose_by_model, choose_by_trees])
def test_the_choices_on_accel_know_trained_networks_alone(tmp_path, choose):
    write_accel(tmp_path, networks=60, noise=0.5)
    table = read_accel(tmp_path)
    within = np.flatnonzero(table.latency_ms["a100"] <= np.median(table.latency_ms["a100"]))
    rows = np.random.default_rng(0).permutation(len(table.structures))[:20].tolist()
    chosen = choose(table, rows, within, 0)
    assert len(set(chosen)) == public_tables.ACCEL_CANDIDATES
    assert set(chosen) <= set(within.tolist()) - set(rows)
    scores = np.random.default_rng(1).uniform(size=table.scores.shape)
    scores[rows] = table.scores[rows]
    assert choose(replace(table, scores=scores), rows, within, 0) == chosen


@pytest.mark.parametrize("choose", [choose_by_model, choose_by_trees])
def test_nothing_is_chosen_where_every_network_is_trained(tmp_path, choose):
    write_accel(tmp_path, networks=30)
    table = read_accel(tmp_path)
    everything = np.arange(len(table.structures))
    assert choose(table, everything.tolist(), everything, 0) == []


def test_the_best_trained_network_within_the_budget_wins_on_accel(tmp_path):
    write_accel(tmp_path, networks=40)
    table = read_accel(tmp_path)
    drawn, within = np.arange(10), np.arange(5, 30)
    asked = []

    def choose(table, rows, within, number):
        asked.append([*rows])
        return [20 + 2 * number, 21 + 2 * number]

    winner = search_accel(table, drawn, within, 2, choose)
    assert asked == [[*range(10)], [*range(10), 20, 21]]
    trained = [5, 6, 7, 8, 9, 20, 21, 22, 23]
    assert winner == max(trained, key=lambda row: table.scores[row, 0])


def test_additive_latencies_are_predicted_without_error(tmp_path):
    scope = public_tables.Scope()
    write_fbnet(tmp_path, networks=500)
    assert run_fbnet(tmp_path, scope)["median"] == pytest.approx(0, abs=1e-4)


def test_costs_are_not_fitted_to_the_networks_that_judge_them(tmp_path):
    """Latencies without any structure cannot be predicted better than by their spread."""
    rng = np.random.default_rng(0)
    layers = rng.integers(9, size=(300, 22))
    rows = [["-".join(map(str, row)), f"{rng.uniform(1, 2):.6f}"] for row in layers]
    write_rows(tmp_path / FBNET, [["layers", "phone_ms"], *rows])
    assert run_fbnet(tmp_path, public_tables.Scope())["median"] > 0.15


def test_the_part_for_tuning_and_the_held_out_part_share_nothing(tmp_path, monkeypatch):
    write_macro(tmp_path)
    write_accel(tmp_path, networks=120)
    jobs: dict[str, list] = {}

    class Pool:
        def __init__(self, workers):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def map(self, run, given):
            name = run.func.__name__ if isinstance(run, partial) else run.__name__
            jobs.setdefault(name, []).append({*given})
            return [{"method": {"regret": [0], "by unseen trainings": [0], "trainings": 1}}
                    if name == "macro_regrets" else {"method": [0.0]} for _ in given]  # fmt: skip

    monkeypatch.setattr(public_tables, "ProcessPoolExecutor", Pool)
    for tuning in (True, False):
        for part in ("macro", "accel"):
            public_tables.PARTS[part][1](tmp_path, public_tables.Scope(tuning))
    for name in ("macro_regrets", "macro_ranks", "accel_regrets"):
        tuned, held_out = jobs[name]
        assert not {first for first, _ in tuned} & {first for first, _ in held_out}
        assert not {second for _, second in tuned} & {second for _, second in held_out}
    assert not jobs["accel_ranks"][0] & jobs["accel_ranks"][1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "--tables FOLDER is missing"),
        (["--tables", "x", "--starts", "0"], "--starts must be at least 1"),
    ],
)
def test_a_wrong_option_ends_in_a_sentence(monkeypatch, capsys, words, reason):
    monkeypatch.setattr(sys, "argv", ["public_tables.py", *words])
    with pytest.raises(SystemExit) as error:
        public_tables.main()
    assert error.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_folder_without_tables_is_skipped(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["public_tables.py", "--tables", str(tmp_path)])
    public_tables.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "skipped macro",
        "skipped accel",
        "skipped fbnet",
    ]
