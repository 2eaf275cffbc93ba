"""What the commands have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from orchestrator.base.errors import ConfigError, Problem


class Parser(argparse.ArgumentParser):
    """Refuses as everything else does: one message, exit code 2."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(Problem(self.prog, message))


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="the folder of the sweeps (default: runs)")
