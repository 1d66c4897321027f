"""Fixtures of the search layer's tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rounds_lab import SETTINGS, SearchCommand, in_closed_form
from threadpoolctl import threadpool_limits

from command_line import invoke


@pytest.fixture
def one_blas_thread() -> Iterator[None]:
    """Small matrices are solved fastest by one thread."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture
def quick_torch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that this process starts find a stand-in for PyTorch, whose import takes seconds.

    For jobs that train nothing. Gives the folder of the stand-in.
    """
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "torch.py").write_text(
        "def set_num_threads(count): pass\n"
        f"def get_float32_matmul_precision(): return {torch.get_float32_matmul_precision()!r}\n"
        "def __getattr__(name): raise ImportError(name)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return folder


@pytest.fixture
def search_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchCommand:
    """Run `genets search` in closed form with more options, in the study `tmp_path / "study"`."""
    in_closed_form(monkeypatch)
    file = tmp_path / "settings.toml"
    lines = [f"{name} = {SETTINGS[name]!r}" for name in ("data", "budget", "master")]
    file.write_text("\n".join(lines))
    out = tmp_path / "study"
    return lambda *words: invoke("search", "--settings", file, "--out", out, *words)
