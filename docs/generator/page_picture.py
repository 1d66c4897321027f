"""A picture of some sections of a page that genets wrote, for README and docs.

    python docs/generator/page_picture.py runs/demo/report.html study.png --section Frontier

Chromium draws the page without a window. The picture has the title of the page and the sections
whose headings begin with the given words. Its colours are reduced, so that the file stays small.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageChops

BROWSER = "chromium"
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
HIGHEST = 4000  # pixels that the browser draws, before the empty rest is cut off
BORDER = 12  # pixels around the content
COLOURS = 128
TITLE_ONLY = "h1 ~ p, h1 ~ details { display: none; }"
CHARTS_ONLY = "section p, section .table, section details { display: none; }"


def shown_page(text: str, headings: Sequence[str], *, charts_only: bool = False) -> str:
    """Hide all sections of a page but those whose headings begin with one of the words.

    Raises:
        ValueError: If no section has such a heading.
    """
    titles = re.findall(r"<section[^>]*>\s*<h2[^>]*>([^<]*)", text)
    for heading in headings:
        if not any(title.startswith(heading) for title in titles):
            raise ValueError(f"no section begins with {heading!r}; the sections: {titles}")
    hidden = [
        f"section:nth-of-type({number}) {{ display: none; }}"
        for number, title in enumerate(titles, start=1)
        if not title.startswith(tuple(headings))
    ]
    rules = [*hidden, TITLE_ONLY, *([CHARTS_ONLY] if charts_only else [])]
    return text.replace("</head>", f"<style>{' '.join(rules)}</style></head>", 1)


def draw(page: Path, picture: Path, width: int) -> None:
    """Let the browser draw a page of the given width in pixels."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [BROWSER, *OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{HIGHEST}",
             f"--screenshot={picture}", page.resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


def trimmed(picture: Image.Image) -> Image.Image:
    """Cut off the white rest of a picture, and reduce its colours."""
    colours = picture.convert("RGB")
    white = Image.new("RGB", colours.size, "white")
    box = ImageChops.difference(colours, white).getbbox() or (0, 0, *colours.size)
    bottom = min(box[3] + BORDER, colours.height)
    return colours.crop((0, 0, colours.width, bottom)).quantize(COLOURS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path, help="page that genets wrote")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    parser.add_argument("--section", action="append", required=True, help="words of a heading")
    parser.add_argument("--charts-only", action="store_true", help="leave out texts and tables")
    parser.add_argument("--width", type=int, default=1060, help="width in pixels")
    args = parser.parse_args()
    try:
        text = args.page.read_text(encoding="utf-8")
        shown = shown_page(text, args.section, charts_only=args.charts_only)
        with tempfile.TemporaryDirectory() as folder:
            page, drawn = Path(folder) / "page.html", Path(folder) / "page.png"
            page.write_text(shown, encoding="utf-8")
            draw(page, drawn, args.width)
            with Image.open(drawn) as picture:
                trimmed(picture).save(args.picture, optimize=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
