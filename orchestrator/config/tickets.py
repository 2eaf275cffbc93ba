"""`search=lottery_ticket from=SWEEP/7`: the configuration of a trained trial in the place of today's defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base.build import with_current_arguments
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.groups import GROUPS, OF_MODEL
from orchestrator.base.settings import ROOT_KEYS, TRIAL_KEYS
from orchestrator.base.upgrades import differing_arguments
from orchestrator.space import Choice, Space

from .composing import Overrides
from .files import Catalogue
from .grammar import USUAL, to_domain, written_sweep
from .searching import Entry
from .weights import FindTrial, described

if TYPE_CHECKING:
    from orchestrator.training.pretrained import KeptWeights

SEARCH = "lottery_ticket"
OWN_GROUP = "prune"
"""What such a sweep decides itself."""

SPARSITY = f"{OWN_GROUP}.sparsity"

NETWORK = ("model", *OF_MODEL, "init")
"""What decides the initial weights, of which the mask is."""

Recorded = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Group -> (choice, spec)."""


def with_ticket(texts: Sequence[str]) -> list[str]:
    """The overrides with the root key `ticket` where `from` was typed."""
    return [f"ticket={text.removeprefix('from=')}" if text.startswith("from=") else text for text in texts]


def find_ticket(
    settings: Mapping[str, Any], search: str | None, find_trial: FindTrial | None
) -> tuple[KeptWeights | None, list[Problem]]:
    """The trial that `ticket` names, with the weights that it kept; and what is wrong.

    Raises:
        NotReadyError: its weights are not there; the message says what brings them back.
    """
    value = settings.get("ticket")
    if value is None:
        why = "takes a trained trial whose weights are kept; write search=lottery_ticket from=SWEEP/7"
        return None, [Problem("search", why, SEARCH)] if search == SEARCH else []
    if search != SEARCH:
        why = (
            "goes with search=lottery_ticket alone; pretrained=SWEEP/7 begins with the weights of a trial, and"
            " orchestrator train from=SWEEP/7 trains it again"
        )
        return None, [Problem("from", why, value)]
    if find_trial is None:
        return None, [Problem("from", "names a trial, which can only be looked up where the sweep is launched", value)]
    try:
        return find_trial(Path(settings["runs_dir"]), str(value)), []
    except ConfigError as error:
        return None, [Problem("from", problem.why, value, problem.nearest) for problem in error.problems]


def other_beginning(ticket: KeptWeights, settings: Mapping[str, Any], overrides: Overrides) -> list[Problem]:
    """What is wrong where other weights are typed to begin with than those that the trial began with."""
    typed = settings.get("pretrained")
    if "pretrained" not in overrides or typed == ticket.config.get("pretrained"):
        return []
    return [Problem("pretrained", f"a ticket begins with the initial weights of {ticket.trial}; leave it out", typed)]


def settings_of(ticket: KeptWeights, overrides: Overrides) -> dict[str, Any]:
    """The root keys that the trial was trained with, but for those of the command line; and its whole name."""
    keys = [key for key in TRIAL_KEYS if ROOT_KEYS[key].computes and key not in overrides and key in ticket.config]
    return {**{key: ticket.config[key] for key in keys}, "ticket": ticket.trial}


def of_recorded(config: Mapping[str, Any], overrides: Overrides) -> Recorded:
    """What the trial had in each group that the command line does not choose."""
    taken = [group for group in GROUPS if group != OWN_GROUP and group not in overrides]
    choices = config.get("choices", {})
    return {group: (choices.get(group, "default"), with_current_arguments(config[group])) for group in taken}


def other_networks(
    ticket: KeptWeights, in_play: Mapping[str, Mapping[str, Mapping[str, Any]]], space: Space
) -> list[Problem]:
    """What makes another network of the trained one, or begins it in another way.

    Args:
        in_play: group -> choice -> spec.
    """
    problems = []
    for group in NETWORK:
        there = with_current_arguments(ticket.config[group])
        choice = ticket.config.get("choices", {}).get(group, "default")
        for name, spec in in_play[group].items():
            if spec.get("_target_") != there.get("_target_"):
                problems.append(_other(group, name, choice))
            else:
                names = differing_arguments(there, spec) if spec else []
                problems += [_other(f"{group}.{each}", spec.get(each), there.get(each)) for each in names]
        for parameter in space.parameters:
            outer, _, inner = parameter.key.partition(".")
            if outer == group and inner and any(end != there.get(inner) for end in parameter.domain.ends()):
                problems.append(_other(parameter.key, "a search", there.get(inner)))
    return problems


def _other(key: str, here: object, there: object) -> Problem:
    why = (
        f"is {there} in the trial that it comes from: the trained network is another, or began in another way, and its masks"
        " are of its own initial weights"
    )
    again = "for other weights of the same initialization, prune.reinit=true"
    return Problem(key, why, here, hint=f"leave {key} out; {again}" if key.startswith("init") else f"leave {key} out")


def narrowed(entries: Sequence[Entry], ticket: KeptWeights, catalogue: Catalogue, notes: list[str]) -> list[Entry]:
    """The entries, of which the usual sparsities are those above the trial's own: what is removed there stays removed."""
    own = _sparsity(ticket)
    return [_above(own, entry, catalogue, notes) if entry.key == SPARSITY else entry for entry in entries]


def _above(own: float, entry: Entry, catalogue: Catalogue, notes: list[str]) -> Entry:
    if entry.sweep != USUAL:
        return entry
    usual = to_domain(written_sweep(SPARSITY, catalogue.choice(OWN_GROUP, SEARCH)[1]["sparsity"]))
    values = usual.values if isinstance(usual, Choice) else ()
    left = tuple(value for value in values if value > own)
    if left == values or not left:  # where none is left each is refused, with what to write
        return entry
    listed = ", ".join(f"{value:g}" for value in left)
    notes.append(f"{SPARSITY} is {listed}: the trial that it comes from lacks {own:g} of its weights already")
    return replace(entry, sweep=Choice(left))


def keep_removed(
    in_play: Mapping[str, Mapping[str, dict[str, Any]]], ticket: KeptWeights, catalogue: Catalogue, overrides: Overrides
) -> None:
    """Removes at least what the trial lacks already where nobody gave a sparsity."""
    spec = in_play[OWN_GROUP].get(SEARCH)
    usual = catalogue.choice(OWN_GROUP, SEARCH)[0]["sparsity"]
    if spec is not None and SPARSITY not in overrides.fixed and spec.get("sparsity") == usual:
        spec["sparsity"] = max(usual, _sparsity(ticket))


def _sparsity(ticket: KeptWeights) -> float:
    """The share of its weights that a trial lacks."""
    return float((ticket.config.get(OWN_GROUP) or {}).get("sparsity", 0.0))


def files_of(ticket: KeptWeights) -> dict[str, Any]:
    """What the configurations say of the ticket's file."""
    from orchestrator.training.pretrained import initial_seed, ticket_key

    pruned = {"pruned": True} if ticket.config.get(OWN_GROUP) else {}
    return {ticket_key(ticket.trial): {**described(ticket), "seed": initial_seed(ticket.config), **pruned}}
