"""Seeds derived from names and numbers, so that no global generator is needed."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*key: str | int) -> int:
    """Derive a 63-bit seed from every part of `key`; it is equal on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def make_generator(*key: str | int) -> torch.Generator:
    """A CPU generator seeded with `derive_seed(*key)`."""
    return torch.Generator().manual_seed(derive_seed(*key))


@contextmanager
def seeded_globals(*key: str | int) -> Iterator[None]:
    """Seed the global CPU generators from `key` and restore them afterwards.

    This is for library code that draws from them, such as timm's transforms.
    """
    with kept_globals():
        seed_globals(*key)
        yield


@contextmanager
def kept_globals() -> Iterator[None]:
    """Restore the global CPU generators afterwards, which takes ten times as long as seeding."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def seed_globals(*key: str | int) -> None:
    """Seed the global CPU generators from `key`. Call it only within `kept_globals`."""
    seed = derive_seed(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
