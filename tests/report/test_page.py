"""Pages: self-contained, escaped, and complete."""

import re
from html.parser import HTMLParser

import pytest

from genets.report.charts import draw_picture, make_chart, styled
from genets.report.html import Cell, Figure, PageTable, Paragraph, Section, page

EVIL = '</script><script>alert("x")</script> & <b>'


class Reader(HTMLParser):
    """Counts tags, and collects the text outside of scripts and what is fetched."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.fetched, self.inside = [], [], [], None

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        self.fetched += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    return reader


@pytest.fixture(scope="module")
def chart():
    return styled(
        make_chart([{"name": EVIL, "x": 1, "y": 2}]).mark_point().encode(x="x:Q", y="y:Q")
    )


@pytest.fixture(scope="module")
def html(chart):
    table = PageTable(["network", EVIL], [[EVIL, Cell("1", "quiet")], ["GENet", "2"]], {1})
    blocks = [Paragraph(EVIL), Figure(chart, EVIL), Figure(chart, "second"), table]
    return page(EVIL, {"device": EVIL}, [Section(EVIL, blocks)])


def test_names_are_escaped_everywhere(html):
    reader = read(html)
    # title, heading, condition, section, paragraph, caption, column, cell
    assert "".join(reader.text).count(EVIL) == 8
    assert reader.tags.count("script") == 2  # the library, and the charts
    assert reader.tags.count("b") == 0


def test_nothing_is_fetched(html):
    assert read(html).fetched == []
    assert not re.search(r"<link|@import|url\(", html.partition("<script>")[0])


def test_every_chart_has_its_place(html):
    assert re.findall(r'id="(chart\d)"', html) == ["chart0", "chart1"]
    assert html.count('"width": "container"') == 2
    assert '"editor": false' in html


def test_rows_that_stand_out(html):
    assert html.count('<tr class="strong">') == 1
    assert re.search('<td class="quiet" data-label="[^"]+">1</td>', html)


def test_a_page_without_charts_needs_no_script():
    html = page("title", {}, [Section("section", [Paragraph("text", quiet=True)])])
    assert "script" not in read(html).tags
    assert '<p class="quiet">text</p>' in html


def test_a_picture_is_a_png(chart, tmp_path):
    (tmp_path / "a.png").write_bytes(draw_picture(chart, "title", "conditions"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
