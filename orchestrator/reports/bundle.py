"""The JavaScript that draws the figures, made once a machine: making it takes 2 s of CPU, and every sweep ends with a report."""

from __future__ import annotations

import contextlib
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from orchestrator.base.regular import read_private
from orchestrator.base.removal import RefusedRemovalError, opened

SCRIPTS = "scripts"
"""Below the cache: a folder of this user alone, as what lies in it runs in the browser of whoever opens a report."""


def bundled(snippet: str) -> str:
    """Vega, Vega-Lite and Vega-Embed as a script, and a snippet that uses them."""
    made_from = _digest(f"{version('vl-convert-python')}\n{snippet}")[:16]
    name = f"vega-{made_from}.js"
    text = _kept(_cache() / SCRIPTS / name)
    if text is None:
        import vl_convert

        text = str(vl_convert.javascript_bundle(snippet))
        with contextlib.suppress(OSError, RefusedRemovalError):  # no home, no room, another's folder: it is made again
            _keep(name, text)
    return text


def _keep(name: str, text: str) -> None:
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with opened(cache) as above, above.inside(SCRIPTS, create=True, mode=0o700) as folder:
        if folder.is_private:
            folder.write(name, f"{_digest(text)}\n{text}", mode=0o600)


def _kept(path: Path) -> str | None:
    """What this user kept, if it is there whole; the digest tells what was cut, not who wrote it."""
    try:
        digest, _, text = read_private(path).decode().partition("\n")
    except (OSError, ValueError):
        return None
    return text if digest == _digest(text) else None


def _cache() -> Path:
    named = os.environ.get("ORCHESTRATOR_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "orchestrator"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
