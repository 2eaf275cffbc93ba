"""Hostile text in Markdown, read by an independent parser of Markdown: it is shown as it is, and forms nothing."""

from __future__ import annotations

import pytest

from orchestrator.tracking.markdown import LONGEST, block, code, plain, table

HOSTILE = [
    "<script>alert(1)</script>",
    "`code` ``more`` ```",
    "a | b",
    "[x](javascript:alert(1)) ![y](http://evil)",
    "**bold** _under_ # head",
    "line\n\n| a | b |\n| --- | --- |",
    "&lt;b&gt; \\| \\`",
    "$x$ ~~gone~~ <!-- note",
    "https://evil.example/<b>",
]


def html(markdown: str) -> str:
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(markdown))


def text_of(rendered: str) -> str:
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.text = ""

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.tags.append(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    reader = Reader()
    reader.feed(rendered)
    assert set(reader.tags) <= {"p", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}
    return reader.text.strip()


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_as_it_is(text: str) -> None:
    expected = " ".join(text.split())
    assert text_of(html(plain(text))) == expected
    assert text_of(html(code(text))) == expected
    assert text_of(html(block(text))).rstrip("\n") == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cell_stays_a_cell(text: str) -> None:
    rendered = html(table(["a", "b"], [(plain(text), "right")]))
    assert rendered.count("<td>") == 2
    assert "<td>right</td>" in rendered
    assert " ".join(text.split()) in text_of(rendered)


def test_what_is_long_is_cut() -> None:
    assert len(plain("x" * 10_000)) == LONGEST
    assert code("x" * 10_000).endswith("...`")
