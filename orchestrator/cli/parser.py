"""What the commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.base.errors import ConfigError, Problem


class Parser(argparse.ArgumentParser):
    """Refuses as everything else does: one message, exit code 2."""

    def describe_at_the_end(self, argv: Sequence[str], text: Callable[[], str]) -> None:
        """Where help is asked for, this stands at its end, as it is."""
        if {"-h", "--help"} & set(argv):
            self.formatter_class, self.epilog = argparse.RawDescriptionHelpFormatter, text()

    def parse_overrides(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments of a command that takes overrides; an option that there is not may be an override with dashes.

        Raises:
            ConfigError: there is no such option; it says what to type.
        """
        from orchestrator.config.foreign import option

        ends = list(argv).index("--") if "--" in argv else len(argv)
        for place, text in enumerate(argv[:ends]):
            if not text.startswith("-") or text == "-" or self._is_known(text) or self._is_value(argv, place):
                continue
            following = argv[place + 1] if place + 1 < ends else None
            if (hint := option(text, following)) is not None:
                typed = f"{text} {following}" if hint.endswith(f"={following}") and "=" not in text else text
                raise ConfigError(Problem(typed, hint))
        return self.parse_intermixed_args(argv)

    def _is_known(self, text: str) -> bool:
        """Whether it is an option, or the beginning of one."""
        name = text.partition("=")[0]
        known = self._option_string_actions
        return name in known or (name.startswith("--") and any(option.startswith(name) for option in known))

    def _is_value(self, argv: Sequence[str], place: int) -> bool:
        """Whether it is the value of the option before it."""
        before = self._option_string_actions.get(argv[place - 1]) if place else None
        return before is not None and before.nargs != 0

    def error(self, message: str) -> NoReturn:
        raise ConfigError(Problem(self.prog, message))


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="the folder of the sweeps (default: runs)")
