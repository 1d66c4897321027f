"""What a running search tells whoever watches it."""

from dataclasses import dataclass

PHASES = (
    "latency table",
    "MasterNet training",
    "trials",
    "verification",
    "confirmation",
    "final training",
    "hand-over",
)


@dataclass(frozen=True, slots=True)
class Event:
    """`done` of `total` steps of `phase` are finished; a step is an epoch, a trial, a network.

    A resumed phase starts with what an earlier run has finished. In a round after the first a
    phase is called `trials, round 2`. `detail` is a few words on the step that just ended.
    """

    phase: str
    done: int
    total: int
    detail: str = ""

    def __post_init__(self) -> None:
        assert self.phase.partition(", round ")[0] in PHASES, self.phase
        assert 0 <= self.done <= self.total, self
