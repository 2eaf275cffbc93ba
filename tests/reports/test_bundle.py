"""The script of the figures is made once, and never read back other than it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.reports.bundle import bundled

SNIPPET = "window.vegaEmbed=vegaEmbed;"


def test_a_kept_script_is_the_one_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE", str(tmp_path / "cache"))
    made = bundled(SNIPPET)
    (kept,) = (tmp_path / "cache").iterdir()
    read = kept.stat().st_mtime_ns, bundled(SNIPPET)
    assert read == (kept.stat().st_mtime_ns, made)
    assert "vegaEmbed" in made

    digest, _, text = kept.read_text().partition("\n")
    kept.write_text(f"{digest}\n{text[:-1]}")
    assert bundled(SNIPPET) == made, "one that was cut is made again"
    assert kept.read_text() == f"{digest}\n{text}"
