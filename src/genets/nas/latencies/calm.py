"""Calm: the wait of a search while other programs use the device."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from genets.core.errors import SettingsError, check_type, counted
from genets.core.log import get_logger
from genets.core.progress import OnProgress, Progress
from genets.latency import Budget, Target
from genets.nas.laboratory import Laboratory
from genets.nas.settings.settings import SearchSettings

_log = get_logger(__name__)

WAITING = "waiting for a calm device"  # the name of the phase


def check_wait(wait_minutes: float) -> float:
    """Return the longest wait. Raises GenetsError unless it is finite and 0 or more."""
    check_type("wait_minutes", wait_minutes, (int, float), "a number")
    if not 0 <= wait_minutes < math.inf:
        raise SettingsError(f"wait_minutes must be 0 or more and finite, not {wait_minutes!r}")
    return wait_minutes


def wait_for_calm(
    lab: Laboratory, target: Target, limit_s: float, on_event: OnProgress | None
) -> bool:
    """Wait until other processes leave the device to a target, and report the wait.

    Returns:
        Whether the device is calm. False means that the limit has passed.
    """
    waited: list[float] = []

    def on_wait(seconds: float, others: float | None) -> None:
        used = "" if others is None else f"other processes use {others:.1f} CPUs"
        if seconds <= 1:
            _log.info("%s: %s", WAITING, used)
        if on_event is not None:
            if not waited:  # a phase that begins later than at 0 looks like a continued phase
                on_event(Progress(WAITING, 0.0, limit_s, used))
            waited.append(seconds)
            on_event(Progress(WAITING, min(seconds, limit_s), limit_s, used))

    is_calm = lab.wait_for_calm(target, limit_s, on_wait)
    if waited and on_event is not None:
        on_event(Progress(WAITING, limit_s, limit_s, "calm" if is_calm else "still busy"))
    return is_calm


def leaves_threads_open(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a search leave the number of CPU threads to genets."""
    target = settings.get("target") or {}
    values = target.to_json() if isinstance(target, Target) else target
    return isinstance(values, Mapping) and values.get("threads") is None


def with_idle_threads(
    settings: SearchSettings, lab: Laboratory, wait_minutes: float, on_event: OnProgress | None
) -> SearchSettings:
    """Use fewer threads if the CPUs stay too busy for all of them.

    Only a multiple of the MasterNet's latency can be decided beside other processes, so a budget
    in ms leaves the threads as they are.
    """
    target = settings.target
    are_relative = all(Budget.parse(budget).is_relative for budget in settings.all_budgets)
    if target.threads in (None, 1) or not are_relative:
        return settings
    if wait_for_calm(lab, target, 60 * wait_minutes, on_event):
        return settings
    threads = lab.count_idle_threads(target)
    if threads != target.threads:
        warnings.warn(
            "other processes use the CPUs, so this study's latencies are for "
            f"{counted(threads, 'CPU thread')} in place of {target.threads}",
            stacklevel=2,
        )
    return settings.model_copy(update={"target": replace(target, threads=threads)})
