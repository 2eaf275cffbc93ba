"""What the commands have in common."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.base.errors import ConfigError, Problem


class Parser(argparse.ArgumentParser):
    """Refuses as everything else does: one message, exit code 2."""

    def describe_at_the_end(self, argv: Sequence[str], text: Callable[[], str]) -> None:
        """Where help is asked for, this stands at its end, as it is."""
        if {"-h", "--help"} & set(argv):
            self.formatter_class, self.epilog = argparse.RawDescriptionHelpFormatter, text()

    def parse_overrides(self, argv: Sequence[str], *, options: Collection[str] = ()) -> argparse.Namespace:
        """The arguments of a command that takes overrides; an option that there is not may be an override with dashes.

        Args:
            options: keys that are options of the command, and no overrides.

        Raises:
            ConfigError: there is no such option, or one was typed as an override; it says what to type.
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
        self._refuse_overrides(argv, options)
        return super().parse_intermixed_args(argv)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, of a command that takes no overrides.

        Raises:
            ConfigError: an option was typed as an override; it says what to type.
        """
        self._refuse_overrides(args or ())
        return super().parse_args(args, namespace)

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The same, where options may stand between the others."""
        self._refuse_overrides(args or ())
        return super().parse_intermixed_args(args, namespace)

    def _refuse_overrides(self, argv: Sequence[str], keys: Collection[str] | None = None) -> None:
        """
        Args:
            keys: of overrides that are refused; None for all that are options.
        """
        for place, text in enumerate(argv):
            key, assigned, value = text.partition("=")
            name = f"--{key.replace('_', '-')}"
            if not assigned or text.startswith("-") or self._is_value(argv, place):
                continue
            if keys is not None and key not in keys:
                continue
            if (option := self._option_string_actions.get(name)) is not None:
                typed = name if option.nargs == 0 else f"{name} {shlex.quote(value)}"
                raise ConfigError(Problem(text, f"is an option of {self.prog}", hint=f"write  {typed}"))

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


def after_command(argv: Sequence[str], commands: Collection[str]) -> str | None:
    """The hint for options that stand before their command; None where no command follows."""
    place = next((place for place, text in enumerate(argv) if text in commands), None)
    if place is None or not argv[0].startswith("-"):
        return None
    typed = shlex.join(["orchestrator", argv[place], *argv[:place], *argv[place + 1 :]])
    return f"options stand behind the command: write  {typed}"


def add_runs_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="the folder of the sweeps (default: runs)")
