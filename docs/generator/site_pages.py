"""Collects the pages of the documentation site: written pages, and pages made from the code.

    python docs/generator/site_pages.py

`make docs` calls this program, and then builds the site from the folder `site/pages`.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from api_pages import api_pages
from command_pages import command_pages
from evidence_page import evidence_page
from notebook_page import NOTEBOOK, notebook_page
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
EXTRAS = ("pictures", "style")
NOTEBOOK_PLACE = "guides/quickstart.md"


def collect_pages(folder: Path) -> None:
    """Write all pages of the site into an empty folder."""
    for path in written_pages():
        place = place_of(path)
        _write(folder / place, with_site_links(path.read_text(encoding="utf-8"), path, place))
    for place, text in generated_pages().items():
        _write(folder / place, text)
    shutil.copy(NOTEBOOK, (folder / NOTEBOOK_PLACE).with_name(NOTEBOOK.name))
    for name in EXTRAS:
        shutil.copytree(DOCS / name, folder / name)


def written_pages() -> list[Path]:
    """Give the pages that people write."""
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in OTHER_PAGES)]


def generated_pages() -> dict[str, str]:
    """Make the pages that come from code, results and the notebook; keys are places."""
    return {
        **command_pages(),
        NOTEBOOK_PLACE: notebook_page(),
        "reference/settings.md": settings_page(),
        "reference/evidence.md": evidence_page(),
        **api_pages(),
    }


def place_of(path: Path) -> str:
    """Give the place of a written page on the site."""
    name = path.relative_to(ROOT).as_posix()
    return OTHER_PAGES.get(name) or path.relative_to(DOCS).as_posix()


def with_site_links(text: str, path: Path, place: str) -> str:
    """Let the links of a page that lead to other written pages lead to their places on the site."""

    pages = set(written_pages())

    def replace(match: re.Match[str]) -> str:
        target = (path.parent / match[1]).resolve()
        if target not in pages:
            return match[0]
        link = os.path.relpath(place_of(target), Path(place).parent)
        return f"]({link}{match[2] or ''})"

    return re.sub(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)", replace, text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    shutil.rmtree(SITE_PAGES, ignore_errors=True)
    collect_pages(SITE_PAGES)
