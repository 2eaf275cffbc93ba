"""The script of the figures is made once, and never read back other than it was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import vl_convert

from orchestrator.reports.bundle import bundled

SNIPPET = "window.vegaEmbed=vegaEmbed;"
EVIL = "alert(1)"


def test_a_kept_script_is_the_one_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "cache"))
    made = bundled(SNIPPET)
    (kept,) = (tmp_path / "cache" / "scripts").iterdir()
    assert (kept.parent.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    read = kept.stat().st_mtime_ns, bundled(SNIPPET)
    assert read == (kept.stat().st_mtime_ns, made)
    assert "vegaEmbed" in made

    digest, _, text = kept.read_text().partition("\n")
    kept.write_text(f"{digest}\n{text[:-1]}")
    assert bundled(SNIPPET) == made, "one that was cut is made again"
    assert kept.read_text() == f"{digest}\n{text}"


def by_link(kept: Path) -> None:
    kept.rename(kept.with_suffix(".aside"))
    kept.symlink_to(kept.with_suffix(".aside"))


def in_a_linked_folder(kept: Path) -> None:
    kept.parent.rename(kept.parent.with_name("aside"))
    kept.parent.symlink_to(kept.parent.with_name("aside"))


def as_a_pipe(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept, 0o600)


UNTRUSTED: dict[str, Callable[[Path], object]] = {
    "the group may write to the file": lambda kept: kept.chmod(0o620),
    "others may write to the file": lambda kept: kept.chmod(0o602),
    "the group may write to the folder": lambda kept: kept.parent.chmod(0o720),
    "others may write to the folder": lambda kept: kept.parent.chmod(0o1777),
    "the file is a link": by_link,
    "the folder is a link": in_a_linked_folder,
    "the file is a pipe": as_a_pipe,
}


@pytest.mark.parametrize("how", UNTRUSTED)
def test_what_others_can_have_written_is_made_anew(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = planted(tmp_path, monkeypatch)
    assert bundled(SNIPPET) == EVIL, "what this user wrote is believed"
    UNTRUSTED[how](kept)
    assert bundled(SNIPPET) == "made anew"


def test_what_another_user_wrote_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path, monkeypatch)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert bundled(SNIPPET) == "made anew"
    (kept,) = (tmp_path / "scripts").iterdir()
    assert EVIL in kept.read_text(), "nothing is put into another's folder"


def planted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with another script, whose digest fits, in the place of the one that is kept."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(cache))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: "made anew")
    bundled(SNIPPET)
    (kept,) = cache.rglob("vega-*.js")
    kept.write_text(f"{hashlib.sha256(EVIL.encode()).hexdigest()}\n{EVIL}")
    return kept
