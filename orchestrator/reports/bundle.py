"""The JavaScript that draws the figures, made once a machine: making it takes 2 s of CPU, and every sweep ends with a report."""

from __future__ import annotations

import contextlib
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from orchestrator.base.regular import read_regular
from orchestrator.base.removal import opened


def bundled(snippet: str) -> str:
    """Vega, Vega-Lite and Vega-Embed as a script, and a snippet that uses them."""
    made_from = _digest(f"{version('vl-convert-python')}\n{snippet}")[:16]
    path = _folder() / f"vega-{made_from}.js"
    text = _kept(path)
    if text is None:
        import vl_convert

        text = str(vl_convert.javascript_bundle(snippet))
        with contextlib.suppress(OSError):  # no home, or no room: it is made again
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened(path.parent) as folder:
                folder.write(path.name, f"{_digest(text)}\n{text}")
    return text


def _kept(path: Path) -> str | None:
    """What was kept, if it is there whole."""
    try:
        digest, _, text = read_regular(path).decode().partition("\n")
    except (OSError, ValueError):
        return None
    return text if digest == _digest(text) else None


def _folder() -> Path:
    named = os.environ.get("ORCHESTRATOR_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "orchestrator"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
