"""Collects the pages of the documentation site: written pages, and pages made from the code.

    python docs/generator/site_pages.py [--stored-notebook]

`make docs` calls this program, and then builds the site from the folder `site/pages`. The program
runs the example notebook, which takes about two minutes. With `--stored-notebook`, the page of the
notebook shows the output that the file of the notebook stores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from api_pages import api_pages
from command_pages import command_pages
from evidence_page import evidence_page
from genets.core.errors import BusyDeviceError
from notebook_page import NOTEBOOK, notebook_page, read_notebook, run_notebook
from settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SITE_PAGES = ROOT / "site" / "pages"
# Pages outside `docs/`, and their places on the site.
OTHER_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
# Files outside `docs/` to which pages link; their places on the site are the same.
OTHER_FILES = ("CITATION.cff", "examples/rep_blocks.py", "examples/uib_blocks.py")
EXTRAS = ("pictures", "style")
NOTEBOOK_PLACE = "guides/quickstart.md"
TIME_LIMIT_S = 300.0  # on two quiet cores, the notebook takes about two minutes
RAN = "The build of this site ran the notebook. The output below is from this run."
STORED = (
    "The output below is from an earlier run, which the file of the notebook stores. The build of "
    "this site did not run the notebook."
)


def collect_pages(folder: Path, notebook: str | None = None) -> None:
    """Write all pages of the site into an empty folder.

    Args:
        folder: The folder.
        notebook: Page of the notebook; without it, the page has the stored output.
    """
    for path in written_pages():
        place = place_of(path)
        _write(folder / place, with_site_links(path.read_text(encoding="utf-8"), path, place))
    pages = generated_pages()
    if notebook is not None:
        pages[NOTEBOOK_PLACE] = notebook
    for place, text in pages.items():
        _write(folder / place, text)
    shutil.copy(NOTEBOOK, (folder / NOTEBOOK_PLACE).with_name(NOTEBOOK.name))
    for name in OTHER_FILES:
        _write(folder / name, (ROOT / name).read_text(encoding="utf-8"))
    for name in EXTRAS:
        shutil.copytree(DOCS / name, folder / name)


def written_pages() -> list[Path]:
    """Give the pages that people write."""
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in OTHER_PAGES)]


def generated_pages() -> dict[str, str]:
    """Make the pages that come from code, results and the stored notebook; keys are places."""
    return {
        **command_pages(),
        NOTEBOOK_PLACE: notebook_page(read_notebook(), STORED),
        "reference/settings.md": settings_page(),
        "reference/evidence.md": evidence_page(),
        **api_pages(),
    }


def place_of(path: Path) -> str:
    """Give the place of a written page or of another file on the site."""
    name = path.relative_to(ROOT).as_posix()
    if name in OTHER_FILES:
        return name
    return OTHER_PAGES.get(name) or path.relative_to(DOCS).as_posix()


def with_site_links(text: str, path: Path, place: str) -> str:
    """Let the links of a page to written pages and other files lead to their places on the site."""

    linked = {*written_pages(), *(ROOT / name for name in OTHER_FILES)}

    def replace(match: re.Match[str]) -> str:
        target = (path.parent / match[1]).resolve()
        if target not in linked:
            return match[0]
        link = os.path.relpath(place_of(target), Path(place).parent)
        return f"]({link}{match[2] or ''})"

    return re.sub(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)", replace, text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class NotebookTimeoutError(BaseException):
    """The run of the notebook takes too long. Like Ctrl-C, it passes through `except Exception`."""


def page_of_a_run(path: Path = NOTEBOOK, limit_s: float = TIME_LIMIT_S) -> str | None:
    """Run a notebook and make its page.

    Args:
        path: The file of the notebook.
        limit_s: Longest time of the run in seconds.

    Returns:
        The page; None if other processes use the device, so that the run cannot end in time.
    """
    try:
        with time_limit(limit_s):
            return notebook_page(run_notebook(read_notebook(path)), RAN)
    except BusyDeviceError as error:
        reason = str(error)
    except NotebookTimeoutError:
        reason = f"the run did not end within {limit_s:g} seconds"
    sys.stderr.write(f"the page of the notebook shows its stored output: {reason}\n")
    return None


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise NotebookTimeoutError after the given time. Only for the main thread."""

    def stop(*_: object) -> None:
        raise NotebookTimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description="Collect the pages of the documentation site.")
    parser.add_argument("--stored-notebook", action="store_true", help="do not run the notebook")
    options = parser.parse_args()
    notebook = None if options.stored_notebook else page_of_a_run()
    shutil.rmtree(SITE_PAGES, ignore_errors=True)
    collect_pages(SITE_PAGES, notebook)


if __name__ == "__main__":
    main()
