"""What a sweep may be called, and its folder."""

from __future__ import annotations

import pytest

from orchestrator.base.names import check_name, slug


@pytest.mark.parametrize("name", ["a", "2026", "lecture-3.a_b", "été", "重み", "x" * 100])
def test_allowed(name: str) -> None:
    assert check_name(name) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "_a", ".a", "a/b", "a b", "a\n", "a\0", "~", "a🙂", "x" * 101, "a\u202eb", "../x"]
)
def test_refused(name: str) -> None:
    assert "1 to 100 letters" in str(check_name(name))


def test_decomposed_letters_are_refused_as_they_look_like_others() -> None:
    assert "NFC" in str(check_name("e\u0301"))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("Lecture 3", "lecture-3"), ("été", "ete"), ("重み", "sweep"), ("a.b_c-d", "a.b_c-d"), ("x" * 99, "x" * 60)],
)
def test_slug_fits_every_file_system(name: str, folder: str) -> None:
    assert slug(name) == folder
