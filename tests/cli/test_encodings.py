"""Names that the encoding of an output lacks are printed as escapes, and never as a traceback."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from genets.cli import app
from genets.cli.output import escape_what_streams_lack
from genets.report import tables
from genets.report.files import write_files
from genets.report.tables import facts_table, screen_table

NAME = "屋顶 🏯"
ESCAPED = r"\u5c4b\u9876 \U0001f3ef"
UNDECODED = "sky\udcff"  # as Python names the folder b"sky\xff"


def assert_escaped(error):
    assert error.startswith("genets: ")
    assert ESCAPED in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_the_error_of_a_process(tmp_path, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "genets", "zoo", NAME]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2
    assert_escaped(done.stderr.decode(encoding))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("words", [("measure", f"{NAME}.toml"), ("report", NAME)])
def test_errors(tmp_path, monkeypatch, encoding, words):
    """In this process, because these commands import PyTorch."""
    monkeypatch.chdir(tmp_path)
    for name in ("stdout", "stderr"):  # strict: a character without an escape is an error
        stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
        monkeypatch.setattr(sys, name, stream)
    escape_what_streams_lack()
    with pytest.raises(SystemExit) as end:
        app(list(words), prog_name="genets")
    assert end.value.code == 2
    assert_escaped(sys.stderr.buffer.getvalue().decode(encoding))


PROGRAM = f"""
import sys
from genets.cli.output import escape_what_streams_lack, print_result, print_remark
from genets.report.tables import facts_table, screen_table
escape_what_streams_lack()
screen = screen_table("{NAME}", ["class", "top-1"], [["{NAME}", "50 %"], ["roof", "60 %"]])
print_result(False, None, [screen, facts_table("facts", [("name", "{NAME}")])], ["{NAME}"])
print_result(True, {{"class": "{NAME}"}})
print_remark("{NAME}")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_tables_lines_and_remarks(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    shown = NAME if encoding == "utf-8" else ESCAPED
    output, remark = done.stdout.decode(encoding), done.stderr.decode(encoding)
    assert output.count(shown) == 4  # title, cell, fact and line
    assert '"class": "\\u5c4b\\u9876 \\ud83c\\udfef"' in output
    assert remark == f"{shown}\n"
    if encoding != "utf-8":
        rows = [line for line in output.splitlines() if "50 %" in line or "60 %" in line]
        assert len({len(row) for row in rows}) == 1, "the columns are aligned"


def test_a_name_that_is_not_valid_utf_8_reaches_screen_and_files(tmp_path, monkeypatch):
    class Stream:
        encoding = "utf-8"

    monkeypatch.setattr(tables.sys, "stdout", Stream())
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(screen_table(None, ["class"], [[UNDECODED]]))
    console.print(facts_table("facts", [("name", UNDECODED)]))
    assert console.export_text().count(r"sky\udcff") == 2
    files = write_files(tmp_path, {"page": ("a.html", f"<p>{UNDECODED}"), "raw": ("a.bin", b"1")})
    assert files["page"].read_text() == r"<p>sky\udcff"
