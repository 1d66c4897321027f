import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, trim_mean

from genets.core.errors import TargetError
from genets.latency.engines import Prepared
from genets.latency.timing.clock import (
    MAX_MOVED_RUN_S,
    PROTOCOLS,
    WARM_UP_LIMIT_S,
    WARM_UP_S,
    Samples,
    is_noisy,
    sample_interleaved,
    warm_up,
)
from genets.latency.timing.statistics import MIN_SAMPLES, median_interval, trimmed_mean

GENETS_1 = PROTOCOLS["genets-1"]


@pytest.mark.parametrize("cost_s", [3e-6, 1e-3, 0.02, 1.5])
def test_known_cost_is_recovered(device, cost_s: float) -> None:
    samples = sample_interleaved(device, {"a": device.runner("a", cost_s)}, GENETS_1)["a"].wall_s
    assert samples == pytest.approx(cost_s, rel=1e-9)
    assert device.pending_s == 0
    assert sum(count for _, count in device.windows) == len(device.launches)


def test_short_runs_fill_a_window(device) -> None:
    sample_interleaved(device, {"a": device.runner("a", 3e-6)}, GENETS_1)
    assert device.windows[-1][1] * 3e-6 == pytest.approx(device.min_window_s, rel=0.01)


def test_a_constant_cost_takes_exactly_the_samples_of_the_protocol(device) -> None:
    for name, count in (("genets-1", 100), ("paper", 30)):
        runs = {"a": device.runner("a", 2e-3)}
        assert len(sample_interleaved(device, runs, PROTOCOLS[name])["a"].wall_s) == count
    assert len(sample_interleaved(device, runs, GENETS_1, min_samples=7)["a"].wall_s) == 7


@pytest.mark.parametrize(("cost_s", "names", "per_sample", "samples"), [
    (2e-3, "a", 1, 100), (5e-4, "a", 2, 50), (1.25e-4, "a", 8, 30), (0.02, "ab", 1, 100),
    (2.5e-3, "ab", 4, 30), (5e-3, "ab", 2, 50),
])  # fmt: skip
def test_a_hundred_runs_in_at_least_thirty_samples(
    device, cost_s: float, names: str, per_sample: int, samples: int
) -> None:
    runs = {name: device.runner(name, cost_s) for name in names}
    taken = sample_interleaved(device, runs, GENETS_1, time_limit_s=1e9)
    assert {len(each.wall_s) for each in taken.values()} == {samples}
    # In turn, a sample is as long as the runs that bring the caches back.
    assert device.windows[-1] == (names[-1], per_sample)


@pytest.mark.parametrize(
    ("protocol", "run_s", "moves"),
    [("genets-1", 5e-3, 30), ("genets-1", 2 * MAX_MOVED_RUN_S, 0), ("paper", 5e-3, 0)],
)
def test_a_network_is_moved_in_memory_before_each_sample(
    device, protocol: str, run_s: float, moves: int
) -> None:
    moved = []
    run = Prepared(
        device.runner("a", run_s), lambda images: images, (1, 3, 8, 8),
        move=lambda: moved.append(len(device.windows)),
    )  # fmt: skip
    taken = sample_interleaved(device, {"a": run}, PROTOCOLS[protocol], min_samples=30)["a"]
    assert len(taken.wall_s) == 30
    assert len(moved) == moves
    if moves:  # the caches are filled again, in windows that are no samples
        assert {after - before for before, after in itertools.pairwise(moved)} == {3}


def test_the_fewest_samples_are_enough_for_the_slowest_network(device) -> None:
    runs = {"fast": device.runner("fast", 1e-3), "slow": device.runner("slow", 5e-3)}
    taken = sample_interleaved(device, runs, GENETS_1, time_limit_s=1e9)
    assert {name: len(each.wall_s) for name, each in taken.items()} == {"fast": 50, "slow": 50}


def test_the_paper_takes_one_run_for_a_sample(device) -> None:
    sample_interleaved(device, {"a": device.runner("a", 1e-5)}, PROTOCOLS["paper"])
    assert device.windows[-30:] == [("a", 1)] * 30


def test_twice_the_cost_is_twice_the_time_and_the_same_is_the_same(device) -> None:
    runs = {name: device.runner(name, cost) for name, cost in (("a", 1), ("b", 2), ("c", 1))}
    samples = sample_interleaved(device, runs, GENETS_1, min_samples=6, time_limit_s=1e9)
    assert np.median(samples["b"].wall_s) == 2 * np.median(samples["a"].wall_s)
    assert np.array_equal(samples["a"].wall_s, samples["c"].wall_s)


def test_samples_of_networks_alternate(device) -> None:
    runs = {name: device.runner(name, 0.01) for name in "ab"}
    sample_interleaved(device, runs, GENETS_1, min_samples=20, time_limit_s=1e9)
    # Each turn: untimed runs for 10 ms to bring the caches back, then the sample.
    turns = [name for name, _ in device.windows[-80:]]
    assert turns == list("aabb") * 20


def test_networks_that_alternate_share_a_drift(device) -> None:
    device.slowness = lambda now_s: 1 + now_s  # ever slower
    runs = {name: device.runner(name, 0.01) for name in "ab"}
    samples = sample_interleaved(device, runs, GENETS_1, min_samples=50, time_limit_s=2.0)
    a, b = (np.median(samples[name].wall_s) for name in "ab")
    assert a == pytest.approx(b, rel=0.03)


def test_ratios_to_a_reference_are_precise_where_both_drift_together(device) -> None:
    device.slowness = lambda now_s: 1 + 0.3 * now_s  # hardly changes between samples of a pair
    runs = {name: device.runner(name, cost_s) for name, cost_s in (("a", 1e-3), ("b", 2e-3))}
    alone = sample_interleaved(device, runs, GENETS_1, time_limit_s=5.0)["b"].counted_s
    assert is_noisy(alone, 0.01)
    samples = sample_interleaved(device, runs, GENETS_1, reference="a", time_limit_s=3.0)
    ratios = samples["b"].ratios(samples["a"])
    assert len(ratios) < len(alone)
    assert np.median(ratios) == pytest.approx(2, rel=0.01)
    assert not is_noisy(ratios, 0.01)


def test_a_network_with_a_precise_ratio_is_sampled_no_longer(device) -> None:
    rng = np.random.default_rng(0)
    cost_s = {"base": 2e-3, "steady": 4e-3, "noisy": 2e-3, "slow": 0.5}

    def runner(name: str) -> Callable[[], None]:
        def run() -> None:
            device.launches.append(name)
            device.pending_s += cost_s[name] * (rng.uniform(0.5, 1.5) if name == "noisy" else 1.0)

        return run

    runs = {name: runner(name) for name in ("base", "steady", "noisy")}
    samples = sample_interleaved(device, runs, GENETS_1, reference="base", time_limit_s=2.0)
    counts = {name: len(each.wall_s) for name, each in samples.items()}
    assert counts["steady"] == 34  # three runs in a sample
    assert counts["noisy"] == counts["base"] > 34
    assert samples["steady"].ratios(samples["base"]).tolist() == pytest.approx([2.0] * 34)
    # A slow reference does not make a fast noisy network take longer than both limits.
    start_s = device.now_s
    runs = {name: runner(name) for name in ("slow", "noisy")}
    sample_interleaved(device, runs, GENETS_1, reference="slow", time_limit_s=2.0)
    assert device.now_s - start_s < 8


def test_latencies_and_ratios_are_precise(device) -> None:
    """A ratio of two networks, each with its own noise, needs more samples than one latency."""
    rng = np.random.default_rng(0)

    def run() -> None:
        device.launches.append("noisy")
        device.pending_s += 0.02 * rng.uniform(0.9, 1.1)

    runs = dict.fromkeys("abc", run)
    latencies, both = (
        sample_interleaved(device, runs, GENETS_1, reference="a", precise=precise, time_limit_s=1e9)
        for precise in ("latencies", "both")
    )
    assert any(is_noisy(each.ratios(latencies["a"]), 0.01) for each in latencies.values())
    for each in both.values():
        assert not is_noisy(each.counted_s, 0.01)
        assert not is_noisy(each.ratios(both["a"]), 0.01)
    assert len({len(each.wall_s) for each in both.values()}) == 1
    assert len(both["a"].wall_s) > len(latencies["a"].wall_s)


def test_imprecise_latencies_beside_precise_ratios_are_sampled_until_the_limit(device) -> None:
    device.slowness = lambda now_s: 1 + 0.03 * now_s
    runs = {name: device.runner(name, cost_s) for name, cost_s in (("a", 0.01), ("b", 0.05))}
    counts = {}
    for precise in ("ratios", "latencies", "both"):
        device.now_s = 0.0
        taken = sample_interleaved(
            device, runs, GENETS_1, reference="a", precise=precise, time_limit_s=20.0
        )
        counts[precise] = [len(each.wall_s) for each in taken.values()]
    assert counts["ratios"] == [100, 100]
    assert counts["both"] == counts["latencies"]
    assert counts["both"][0] == counts["both"][1] > 200


def test_a_pair_with_an_interrupted_sample_has_no_ratio() -> None:
    wall_s = np.array([2.0, 4.0, 9.0, 4.0])
    network = Samples(wall_s, np.array([2.0, 4.0, np.nan, 4.0]))
    reference = Samples(wall_s, np.array([np.nan, 2.0, 2.0, 4.0]))
    assert network.ratios(reference).tolist() == [2.0, 1.0]


def test_warm_up_lasts_and_waits_for_agreement(device) -> None:
    assert warm_up(device, device.runner("a", 1e-3)) == pytest.approx(1e-3)
    assert WARM_UP_S <= device.now_s < 2 * WARM_UP_S
    start = device.now_s
    device.slowness = lambda now_s: max(1.0, 5.0 - 5 * (now_s - start))  # settles after 0.8 s
    assert warm_up(device, device.runner("a", 1e-3)) == pytest.approx(1e-3, rel=0.02)
    assert device.now_s - start >= 0.8


def test_warm_up_without_agreement_ends(device) -> None:
    turns = itertools.cycle([1.0, 2.0, 4.0])
    runner = [1.0]

    def run() -> None:
        device.launches.append("a")
        device.pending_s += 0.05 * runner[0]
        runner[0] = next(turns)

    warm_up(device, run)
    assert WARM_UP_LIMIT_S <= device.now_s < WARM_UP_LIMIT_S + 1


def test_sampling_goes_on_until_the_interval_is_narrow(device) -> None:
    rng = np.random.default_rng(0)
    device.slowness = lambda now_s: rng.uniform(0.9, 1.1)
    samples = sample_interleaved(device, {"a": device.runner("a", 1e-3)}, GENETS_1)["a"].wall_s
    low, high = median_interval(samples)
    assert len(samples) > 100
    assert max(high / np.median(samples), np.median(samples) / low) < 1.0102


def test_the_time_limit_ends_sampling(device) -> None:
    runs = {"a": device.runner("a", 0.25)}
    samples = sample_interleaved(device, runs, GENETS_1, time_limit_s=2.0)["a"].wall_s
    assert len(samples) == 8


def test_even_a_slow_network_gets_samples_for_an_interval(device) -> None:
    runs = {name: device.runner(name, 5.0) for name in "ab"}
    samples = sample_interleaved(device, runs, GENETS_1, time_limit_s=2.0)
    assert {len(taken.wall_s) for taken in samples.values()} == {MIN_SAMPLES}
    # Runs of seconds do not notice what the caches held: one untimed run of each will do.
    assert device.launches.count("a") <= MIN_SAMPLES + 3
    samples = sample_interleaved(device, runs, GENETS_1, min_samples=2, time_limit_s=2.0)
    assert len(samples["a"].wall_s) == 2


def brute_force_interval(ordered: np.ndarray) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics with coverage of at least 95 %."""
    n, best = len(ordered), (ordered[0], ordered[-1])
    for k in range(1, n // 2 + 1):
        if binom.cdf(n - k, n, 0.5) - binom.cdf(k - 1, n, 0.5) >= 0.95:
            best = (ordered[k - 1], ordered[n - k])
    return best


@pytest.mark.parametrize("count", [*range(1, 41), 99, 100, 101, 1000])
def test_median_interval_against_brute_force(count: int) -> None:
    samples = np.random.default_rng(count).exponential(size=count)
    assert median_interval(samples) == brute_force_interval(np.sort(samples))


def test_median_interval_covers_the_median() -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 50))
    bounds = np.array([median_interval(row) for row in draws])
    share = np.mean((bounds[:, 0] <= np.log(2)) & (np.log(2) <= bounds[:, 1]))
    assert 0.95 <= share < 0.98  # 0.967 by the binomial distribution


def test_trimmed_mean_drops_three_of_thirty_at_each_end() -> None:
    assert trimmed_mean(np.array([*range(24), 1e9, 1e9, 1e9, -1e9, -1e9, -1e9])) == 11.5
    samples = np.random.default_rng(0).normal(size=30)
    assert trimmed_mean(samples) == pytest.approx(trim_mean(samples, 0.1))


def test_unknown_protocol() -> None:
    from genets.latency.timing.clock import find_protocol

    with pytest.raises(TargetError, match="unknown protocol 'genets1'; did you mean genets-1"):
        find_protocol("genets1")
