"""The keys that every command prints with `--json`. Keys may be added, never removed or renamed."""

from __future__ import annotations

from typing import Any

# By command, then by the object's path: `rows[].target` is in each element of the list `rows`,
# `accuracy.*` is each value of an object whose keys are data.
TARGET = "batch_size, device, engine, precision, provider, threads"
ENVIRONMENT = (
    "capability, clock_khz, cpus, device_name, freed_memory_kept, governor, instruction_sets, "
    "load_average, nominal_mhz, onednn_max_isa, packages, python, system, threads"
)
SELECTED = (
    "budget_ms, disturbed, high_ms, low_ms, margin, master_ms, measured_ms, noisy, outside, "
    "predicted_accuracy, predicted_accuracy_high, predicted_accuracy_low, predicted_accuracy_std, "
    "predicted_ms, resolution, structure, table_rmspe"
)
CONFIRMED = (
    "balanced_accuracy, cross_entropy, epochs, quantised, reason, seconds, status, structure, top1"
)
RIVALS = {
    "rivals[]": (
        "budget_ms, difference, disturbed, epochs, folder, high_ms, low_ms, master_ms, "
        "measured_ms, name, noisy, reason, resolution, status, test, weights, within_budget"
    ),
    "rivals[].difference": "half_width, high, images, low, top1",
    "rivals[].test": "balanced_accuracy, cross_entropy, images, top1",
}
CONDITIONS = "batch size, device, engine, precision, protocol, system, threads, versions"
BASELINE = (
    "family, ms_per_image, multiply_adds_m, name, network_from, note, options, parameters_m, "
    "resolution, set, source, top1_percent"
)
CALIBRATION = "data, split, split_from"
STEPS = (
    "bit_depth, colours, crop, deeper_pixels, exif_orientation, mean, other_colours, resize, std, "
    "transparency, values"
)
RESIZE = "antialias, interpolation, library, other_side, pixels, resized_side"
CROP = "border, height, left, top, width"
BATCH_SIZES = "1, 16, 2, 32, 4, 64, 8"
KEYS: dict[str, dict[str, str]] = {
    "measure": {
        "": (
            "disturbances, disturbed, environment, high_ms_per_image, interrupted, launch_bound, "
            "launch_share, low_ms_per_image, memory_bytes, ms_per_image, network, noisy, "
            "other_cpus, p90_ms_per_image, p99_ms_per_image, protocol, quantisation, resolution, "
            "samples_ms, seconds, target, undelayed"
        ),
        "target": TARGET,
        "environment": ENVIRONMENT,
    },
    "compare": {
        "": "conditions, findings, rows",
        "conditions": CONDITIONS,
        "rows[]": (
            "batch_size, device, disturbed, engine, error, family, high_ms_per_image, "
            "high_times_reference, launch_bound, low_ms_per_image, low_times_reference, "
            "memory_bytes, ms_per_image, multiply_adds, network, noisy, p90_ms_per_image, "
            "p99_ms_per_image, paper_ms_per_image, paper_table, parameters, precision, "
            "prepare_seconds, provider, published_top1_percent, reference, reference_resolution, "
            "resolution, run, samples, threads, times_reference"
        ),
        "findings[]": "frontier, note, rank_correlation, speed_ups, target",
        "findings[].target": TARGET,
    },
    "profile": {
        "": "conditions, findings, rows",
        "conditions": CONDITIONS,
        "rows[]": (
            "batch_size, device, disturbed, engine, error, family, figure, high_ms_per_image, "
            "high_times_reference, launch_bound, low_ms_per_image, low_times_reference, "
            "memory_bytes, ms_per_image, multiply_adds, network, noisy, p90_ms_per_image, "
            "p99_ms_per_image, paper_ms_per_image, paper_table, parameters, precision, "
            "prepare_seconds, provider, published_top1_percent, ratio, reference, "
            "reference_resolution, resolution, run, samples, threads, times_reference, type, width"
        ),
        "findings": "figure2a, figure2bc, figure3, noisy",
    },
    "rank": {
        "": "networks",
        "networks[]": "advice, claim, network, resolution, stages, trained, weights",
        "networks[].stages[]": (
            "channels, directions_90, directions_90_share, effective_rank, effective_rank_share, "
            "fan_in, groups, kept_at_0.25, kept_at_0.5, kernel, kind, largest_singular_value, "
            "layer, random_directions_90_share, reduction, stable_rank, stable_rank_share, stage, "
            "values"
        ),
        "networks[].advice[]": "advice, block, choices, profile_width, sentence, stage",
        "networks[].advice[].choices[]": "faster, kept, noisy, ratio, times_latency, type",
    },
    "eval": {
        "": (
            "accuracy, calibration, data, mean, network, preprocessing, resolution, split, "
            "split_from, std, trained, weights"
        ),
        "calibration": CALIBRATION,
        "preprocessing": STEPS,
        "preprocessing.resize": RESIZE,
        "preprocessing.crop": CROP,
        "accuracy.*": (
            "balanced_accuracy, classes, confusions, cross_entropy, images, quantisation, top1, "
            "top5"
        ),
        "accuracy.*.classes[]": "class, images, precision, right, taken_for_it, top1, top5",
        "accuracy.*.confusions[]": "class, images, taken_for",
    },
    "export": {
        "": (
            "batch_dimension, calibration, class_names, data, environment, files, folder, input, "
            "largest_difference_when_loaded_again, measured, network, output, quantisation, "
            "settings, target, trained"
        ),
        "calibration": CALIBRATION,
        "measured": "batch_size, files, largest_difference_when_loaded_again",
        "target": TARGET,
        "settings": "options, providers, session",
        "settings.session": "inter_op_num_threads, intra_op_num_threads",
        "input": f"dtype, layout, name, shape, {STEPS}",
        "input.resize": RESIZE,
        "input.crop": CROP,
        "output": "meaning, name",
        "quantisation": "activations, images, ranges_from, tool, weights",
        "environment": ENVIRONMENT,
    },
    "predict": {
        "": "images, network, resolution, target, unreadable",
        "target": TARGET,
        "images[]": "class, classes, file, probability",
        "images[].classes[]": "class, probability",
        "unreadable[]": "file, reason",
    },
    "train": {
        "": "data, epoch, epochs, network, notes, results, test, validation",
        "validation": "balanced_accuracy, balanced_images, cross_entropy, images, top1",
        "test": "balanced_accuracy, balanced_images, cross_entropy, images, top1",
    },
    "zoo": {
        "": "baselines, structures",
        "structures[]": "multiply_adds, name, notation, parameters, resolution",
        "baselines[]": BASELINE,
        "baselines[].ms_per_image.*": BATCH_SIZES,
    },
    "zoo, a structure": {
        "": "multiply_adds, name, notation, parameters, resolution, stages",
        "stages[]": "depth, kernel, ratio, stride, type, width",
    },
    "zoo, a baseline": {
        "": BASELINE,
        "ms_per_image.*": BATCH_SIZES,
    },
    "search": {
        "": (
            "confirmed, difference, files, folder, folds, master, response, rivals, rounds, "
            "screened, seconds, selected, trials_done, trials_failed, warnings, winner"
        ),
        "selected": SELECTED,
        "master": "balanced_accuracy, cross_entropy, top1",
        "winner": "balanced_accuracy, cross_entropy, top1",
        "difference": "half_width, high, images, low, top1",
        "confirmed[]": CONFIRMED,
        "rounds[]": (
            "candidates, confirmed, master, master_validation, round, trials_done, trials_failed"
        ),
        "rounds[].master_validation": "balanced_accuracy, cross_entropy, top1",
        "rounds[].candidates[]": SELECTED,
        "rounds[].confirmed[]": CONFIRMED,
    },
    "search --plan": {
        "": (
            "continued, disk_bytes, finish_at, folder, free_bytes, gpu_hours, gpus, images, "
            "made_at, phases, probe_seconds, processes, reasons, seconds, settings, warnings, "
            "workers, workers_on"
        ),
        "images": "test, train, validation",
        "disk_bytes": "MasterNet, candidates, other, rivals, trials, winner",
        "phases[]": "basis, count, epochs, folds, phase, seconds, steps, work",
    },
    "search --watch": {
        "": (
            "failure, frontier, host, metric, phases, process, running, seconds_left, seen_at, "
            "selected, state, study, trials, trials_per_minute, waiting, warnings, workers"
        ),
        "phases[]": "done, phase, seconds, state, total",
        "trials": "done, failed, planned",
        "workers": "count, on",
        "frontier[]": "budgets, high, low, ms_per_image, score, structure",
    },
    "search --watch, selected": {
        "selected[]": "budget, candidate, trained, winner",
        "selected[].candidate": SELECTED,
        "selected[].trained": CONFIRMED,
    },
    "search, rivals": RIVALS,
    "search, several budgets": {
        "": (
            "budgets, confirmed, difference, files, folder, folds, master, refused, response, "
            "rivals, screened, seconds, selected, trials_done, trials_failed, warnings, winner"
        ),
        "budgets[]": (
            "budget, confirmed, difference, files, master, rivals, selected, warnings, winner"
        ),
        "budgets[].selected": SELECTED,
        "budgets[].master": "balanced_accuracy, cross_entropy, top1",
        "budgets[].winner": "balanced_accuracy, cross_entropy, top1",
        "budgets[].difference": "half_width, high, images, low, top1",
        "budgets[].confirmed[]": CONFIRMED,
    },
    "search, several budgets, rivals": {f"budgets[].{place}": k for place, k in RIVALS.items()},
    "select": {
        "": f"{SELECTED}, metric",
    },
    "select --out": {
        "": f"{SELECTED}, files, metric, train, trained",
    },
    "select --top": {
        "": "alternatives, asked",
        "alternatives[]": f"{SELECTED}, metric",
    },
    "report": {
        "": (
            "accuracy_model, confirmed, failure, finished, folds, missing, page, rivals, rounds, "
            "screened, selected, study, targets, trials, warnings"
        ),
        "trials": "done, failed, planned",
        "targets[]": "measured_networks, table_rmspe, target",
        "selected": SELECTED,
        "confirmed[]": CONFIRMED,
        "rounds[]": "confirmed, master, master_validation, round, trials",
        "rounds[].master_validation": "balanced_accuracy, cross_entropy, images, top1",
        "accuracy_model": (
            "excluded, form, leave_one_out_rmse, leave_one_out_spearman, master_value, "
            "pseudo_gradients, response, trials, warnings"
        ),
        "accuracy_model.pseudo_gradients[]": "block, g0, g1, g2, super_block, trials",
        "accuracy_model.pseudo_gradients[].g0": "mean, std",
        "accuracy_model.pseudo_gradients[].g1": "mean, std",
        "accuracy_model.pseudo_gradients[].g2": "mean, std",
    },
    "report, several budgets": {
        "": (
            "accuracy_model, budgets, confirmed, failure, finished, folds, missing, page, rivals, "
            "rounds, screened, selected, study, targets, trials, warnings"
        ),
        "budgets[]": "budget, confirmed, difference, master, refusal, rivals, screened, selected, "
        "winner",
        "budgets[].selected": SELECTED,
        "budgets[].master": "balanced_accuracy, cross_entropy, top1",
        "budgets[].winner": "balanced_accuracy, cross_entropy, top1",
        "budgets[].difference": "half_width, high, images, low, top1",
        "budgets[].confirmed[]": CONFIRMED,
    },
    "doctor": {
        "": "devices, disk, engines, load, memory, threads, versions",
        "versions": "genets, python, system, timm, torch",
        "devices[]": "capability, device, device_name",
        "engines[]": "device, engine, missing, precisions, provider",
        "threads": "MKL_NUM_THREADS, OMP_NUM_THREADS, OMP_WAIT_POLICY, cpus, default, torch, "
        "usable_cpus",
        "load": "calm, load_average, other_cpus",
        "memory": "free_bytes, total_bytes",
        "disk[]": "folder, free_bytes",
    },
    "profile --table": {
        "": "entries, rmspe, source, table, target",
    },
}

# Objects whose keys are data, such as the names of networks: all their values have the same keys.
NAMED_BY_DATA = {"accuracy", "files", "packages", "seconds", "ms_per_image"}


def check_keys(command: str, printed: Any) -> None:
    """Fail if a key of `KEYS` is missing from what `command` printed; then also show new ones."""
    actual, missing, new = keys_of(printed), set(), set()
    for place, names in KEYS[command].items():
        pinned = set(names.split(", "))
        missing |= {f"{place}: {name}" for name in pinned - actual.get(place, set())}
    for place, found in actual.items():
        pinned = set(KEYS[command].get(place, "").split(", "))
        new |= {f"{place}: {name}" for name in found - pinned}
    assert not missing, f"genets {command} lost keys {sorted(missing)}; new keys: {sorted(new)}"


def keys_of(value: Any, path: str = "") -> dict[str, set[str]]:
    """The keys of each object in `value`, by the object's path."""
    keys: dict[str, set[str]] = {}
    parts: list[tuple[str, Any]] = []
    if isinstance(value, list):
        parts = [(f"{path}[]", item) for item in value]
    elif isinstance(value, dict):
        parent = f"{path}." if path else ""
        if path.rpartition(".")[2] in NAMED_BY_DATA:
            parts = [(f"{parent}*", item) for item in value.values()]
        else:
            keys[path] = set(value)
            parts = [(f"{parent}{key}", item) for key, item in value.items()]
    for part, item in parts:
        for place, names in keys_of(item, part).items():
            keys[place] = keys.get(place, set()) | names
    return keys
