"""Starting Python: how every process of ours is started."""

from __future__ import annotations

import sys


def python(*arguments: str) -> list[str]:
    """The command of this Python with arguments such as `-m module`, without the current folder on the child's path.

    `-m` and `-c` would put that folder first, where a user's `yaml.py` or `models/` would be imported instead of what we mean.
    """
    return [sys.executable, "-P", *arguments]
