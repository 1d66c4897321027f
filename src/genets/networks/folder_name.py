"""Whether the text of a network argument is a results folder or a name."""

from __future__ import annotations

import os
from pathlib import Path

from genets.networks.baselines import baselines
from genets.structure import zoo


def find_results_folder(text: str) -> Path | None:
    """Find the results folder that a network argument names.

    A name of the zoo or of a baseline is always that network, also beside a folder of the same
    name. Such a folder is given as `./NAME`.

    Args:
        text: A network, as commands and settings take it.

    Returns:
        An existing folder; None for any other text.
    """
    return Path(text) if os.path.isdir(text) and not is_network_name(text) else None


def is_network_name(text: str) -> bool:
    """Whether a text is a name of the zoo or of a baseline."""
    return text in zoo or text in baselines
