"""A sweep on its way from overrides to a plan, with every problem found on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.base import yaml_files
from orchestrator.base.build import build, check, check_arguments, parameters, unknown_key
from orchestrator.base.errors import ConfigError, Problem
from orchestrator.base.groups import GROUPS, OF_MODEL, PARTS, PROVIDED
from orchestrator.base.records import METRICS
from orchestrator.base.rights import Rights, grant
from orchestrator.base.rules import RULES
from orchestrator.base.settings import CONF, PRETRAINED_FILES, ROOT_KEYS, TRIAL_KEYS, Settings, settings_problems
from orchestrator.base.targets import resolve
from orchestrator.config.plan import SweepPlan
from orchestrator.space import Choice, Space

from .claims import Claim, ClaimError, decode_claims
from .claims_of_sweep import misfits
from .composing import Composed, Overrides, compose, read_overrides
from .files import open_catalogue
from .foreign import list_of
from .grammar import SPACE_BLOCKS
from .machine import cpus, gpus
from .rights import KEYS as RIGHTS_KEYS
from .rights import read_user_rights, rights_of
from .searching import DEFAULT_SEARCH, Entry, Search, choices_of, is_open, read_entries
from .specs import Specs
from .tickets import (
    Recorded,
    files_of,
    find_ticket,
    keep_removed,
    narrowed,
    of_recorded,
    other_beginning,
    other_networks,
    settings_of,
    with_ticket,
)
from .weights import FindTrial

if TYPE_CHECKING:
    from orchestrator.training.pretrained import KeptWeights

CLAIMS = "claims"
"""The block of an experiment that says what its results are to show."""

PART_HAS = {
    "sampler": ("problems", "limit", "start"),
    "scheduler": ("rungs", "start"),
    "tracking": ("kind",),
    "cluster": ("kind",),
}
"""What the sweep asks of the objects that describe how it runs."""


@dataclass
class Draft:
    """The steps of `plan`, each of which adds to `problems` and `notes`.

    Args:
        given: the rights in force; those of the overrides and of the user's settings where absent.
        find_trial: (runs folder, `SWEEP/7`) -> the weights that a trial kept.
        left_out: (group, choice) -> why it cannot run here; a ready search that asks for all choices goes without them.
    """

    config_dir: str | Path | None
    config_name: str
    left_out: Mapping[tuple[str, str], str] = field(default_factory=dict)
    given: Rights | None = None
    find_trial: FindTrial | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.catalogue = open_catalogue(self.config_dir)
        self.own_rights, self.rights = read_user_rights(), Rights()
        self.overrides = Overrides({}, {}, frozenset())
        self.chosen: Mapping[str, str] = {}
        self.settings: dict[str, Any] = {}
        self.open: set[tuple[str, str]] = set()

    def raise_problems(self) -> None:
        """Raise ConfigError with the problems found so far, if there are any, each once and with its place."""
        if self.problems:
            different = {str(problem): problem for problem in self.problems}.values()
            raise ConfigError([self._located(problem) for problem in different])

    def plan(self, texts: Sequence[str]) -> SweepPlan:
        """The plan, as far as it can be made; raises ConfigError only where nothing further can be checked."""
        self.overrides = read_overrides(with_ticket(texts), self.catalogue, self.problems)
        composed = self._composed()
        self.chosen = composed.chosen
        entries = read_entries(composed, self.overrides, self.catalogue, self.problems)
        self._read_rights(composed)
        self._read_settings(composed)
        ticket = self._read_ticket()
        entries = self._without_what_the_model_lacks(entries)
        entries = [self._usable(entry) if self._may_be_narrowed(entry) else entry for entry in entries]
        if ticket is not None:
            entries = narrowed(entries, ticket, self.catalogue, self.notes)
        recorded = {} if ticket is None else of_recorded(ticket.config, self.overrides)
        specs = self._read_specs(composed, entries, recorded)
        if ticket is not None:
            keep_removed(specs.of, ticket, self.catalogue, self.overrides)
        base = {
            "choices": {group: specs.chosen[group] for group in GROUPS},
            **{group: specs.of[group][specs.chosen[group]] for group in GROUPS},
            **{key: self.settings.get(key) for key in TRIAL_KEYS},
            "import_paths": list(self.rights.import_paths),
            **({} if ticket is None else {PRETRAINED_FILES: files_of(ticket)}),
        }
        search = Search(entries, specs, self.overrides, self.problems, self.notes)
        space = search.space(base)
        if ticket is not None:
            self.problems += other_networks(ticket, specs.of, space)
        trials = self._check_parts(specs, space)
        plan = SweepPlan(
            settings={**self.settings, "trials": trials},
            base=base,
            choices={group: specs.of[group] for group in GROUPS if group in space.keys},
            space=space,
            facts={"fits": self._fits(trials)},
            notes=tuple(self.notes),
            rules=RULES,
            rights=self.rights,
            sampler=specs.of["sampler"][specs.chosen["sampler"]],
            scheduler=specs.of["scheduler"][specs.chosen["scheduler"]],
            tracking=specs.of["tracking"][specs.chosen["tracking"]],
            cluster=specs.of["cluster"][specs.chosen["cluster"]],
        )
        return self._with_claims(plan, composed)

    def _with_claims(self, plan: SweepPlan, composed: Composed) -> SweepPlan:
        """The plan with what the experiment claims; what the command line leaves no trial for is left out, with a note."""
        if not composed.values.get(CLAIMS) or self.problems:
            return plan
        try:
            claims = decode_claims(composed.values[CLAIMS])
        except ClaimError as error:
            self.problems.append(error.problem)
            return plan
        kept = [claim.id for claim in claims if self._is_claimed(claim, plan)]
        written = tuple(one for one in composed.values[CLAIMS] if one["id"] in kept)
        return replace(plan, claims=written, notes=tuple(self.notes))

    def _is_claimed(self, claim: Claim, plan: SweepPlan) -> bool:
        found = misfits(claim, plan)
        given = {*self.overrides.fixed, *self.overrides.swept, *self.overrides.removed}
        if typed := [key for key, _ in found if key in given or key.split(".")[0] in given]:
            self.notes.append(f"the claim {claim.id} is left out: {typed[0]} is not as the experiment has it")
        else:
            self.problems += [problem for _, problem in found]
        return not found

    def _without_what_the_model_lacks(self, entries: list[Entry]) -> list[Entry]:
        """The default search, which nobody asked for, leaves out a group of the model that it does not take."""
        if not self._searches_by_default():
            return entries
        try:
            spec, _ = self.catalogue.choice("model", self.chosen["model"])
            takes = parameters(resolve(spec["_target_"]))
        except (ConfigError, KeyError):
            return entries  # reported with the other problems of the model
        lacking = [e.key for e in entries if e.key in OF_MODEL and e.where and e.key not in takes]
        self.notes += [f"{key} is not searched: model={self.chosen['model']} takes none" for key in lacking]
        if self.settings.get("pretrained") is not None and any(e.key == "norm" and e.where for e in entries):
            lacking.append("norm")
            self.notes.append("norm is not searched: pretrained weights are of one normalization")
        return [entry for entry in entries if entry.key not in lacking]

    def _searches_by_default(self) -> bool:
        return self.chosen.get("search") == DEFAULT_SEARCH and "search" not in self.overrides

    def _may_be_narrowed(self, entry: Entry) -> bool:
        """Whether choices that cannot run are left out: of all that there are, or of those that nobody asked for."""
        return is_open(entry) or (self._searches_by_default() and entry.key in OF_MODEL and bool(entry.where))

    def _usable(self, entry: Entry) -> Entry:
        """An entry for choices of a group, narrowed to those that can run; a note names the others."""
        reasons: dict[str, str] = {}
        names = choices_of(entry, self.catalogue, [])
        for name in names:
            try:
                spec, _ = self.catalogue.choice(entry.key, name)
                found = check(entry.key, spec, provided=PROVIDED.get(entry.key, ()))
            except ConfigError as error:
                found = error.problems
            if found := [problem for problem in found if problem.key not in self.overrides]:
                reasons[name] = str(found[0])
            elif (entry.key, name) in self.left_out:
                reasons[name] = self.left_out[entry.key, name]
        self.open |= {(entry.key, name) for name in names if name not in reasons}
        if not reasons or len(reasons) == len(names):
            return entry
        if len(names) - len(reasons) < 2 and entry.key in OF_MODEL and "model" in self.overrides.swept:
            return entry  # one model that takes nothing must not narrow the search of the others: its problems are told
        self.notes += [f"{entry.key}={name} is left out: {why}" for name, why in reasons.items()]
        return replace(entry, sweep=Choice(tuple(name for name in names if name not in reasons)))

    def failing(self) -> dict[tuple[str, str], str]:
        """The choices at fault for a problem, of those that a ready search took because all were asked for."""
        at_fault = {(problem.key, str(problem.value)): problem.why for problem in self.problems}
        return {choice: why for choice, why in at_fault.items() if choice in self.open}

    def _composed(self) -> Composed:
        """What Hydra makes of it. What is wrong here ends the check, as nothing more is known."""
        self.notes += [f"{problems[0]}; the file is left out" for problems in self.catalogue.broken.values()]
        try:
            return compose(self.catalogue, self.config_name, self.overrides)
        except ConfigError as error:
            self.problems += error.problems
        raise ConfigError(self.problems)

    # root keys

    def _read_rights(self, composed: Composed) -> None:
        """Rights from the command line and the user's settings, in force from here on; a YAML must not allow what it needs."""
        written: dict[str, list[str]] = {}
        for key in RIGHTS_KEYS:
            value = composed.values.get(key)
            value = [value] if isinstance(value, str) else value
            if self.given is not None and key in self.overrides:
                self.problems.append(Problem(key, "stands in a record, which gives no rights", value))
            if value and key not in self.overrides:
                why = "must come from the command line or your own settings file, not from the YAML that needs it"
                self.problems.append(Problem(key, why, value))
                value = []
            # what is not a list of texts stays as it is: the check of types reports it
            self.settings[key] = value
            written[key] = [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
        if self.given is not None:
            self.rights = self.given
            self.settings |= dict(zip(RIGHTS_KEYS, map(list, astuple(self.given)), strict=True))
            grant(self.rights)
            return
        typed = rights_of(written["allowed_targets"], written["import_paths"], Path.cwd())
        self.rights = self.own_rights | typed
        if isinstance(self.settings["allowed_targets"], list):
            self.settings["allowed_targets"] = [*self.own_rights.targets, *self.settings["allowed_targets"]]
        if not self.rights.targets:
            self.rights = Rights()
        elif not typed.import_paths:
            folders = (*map(str, self.catalogue.folders[1:]), str(Path.cwd()))
            self.rights |= Rights(import_paths=folders)
        grant(self.rights)

    def _read_settings(self, composed: Composed) -> None:
        values = {key: composed.values[key] for key in ROOT_KEYS if key in composed.values}
        self.settings = values | self.settings
        if composed.values.get("experiment"):
            path = self.catalogue.files["experiment"][self.chosen["experiment"]]
            why = "must begin with the line '# @package _global_', or what it sets goes nowhere"
            self.problems.append(Problem(str(path), why))
        known = {*ROOT_KEYS, *self.catalogue.files, CLAIMS}
        unknown = sorted(set(composed.values) - known - set(SPACE_BLOCKS))
        self.problems += [unknown_key(key, composed.values[key], known) for key in unknown]
        found = check_arguments("", self.settings, parameters(Settings))
        self.problems += [*found, *settings_problems(self.settings, wrong={problem.key for problem in found})]
        self.sound = not found
        if self.sound:
            self.settings["mode"] = self.settings["mode"] or METRICS.get(self.settings["metric"])
            for key in ("runs_dir", "data_cache"):
                if self.settings[key] is not None:
                    self.settings[key] = str(Path(self.settings[key]).expanduser().absolute())

    def _read_ticket(self) -> KeptWeights | None:
        """The trained trial of `search=lottery_ticket`, whose root keys are taken where the command line says nothing else."""
        if not self.sound:
            return None
        ticket, problems = find_ticket(self.settings, self.chosen.get("search"), self.find_trial)
        self.problems += problems
        if ticket is not None:
            self.problems += other_beginning(ticket, self.settings, self.overrides)
            self.settings |= settings_of(ticket, self.overrides)
        return ticket

    # choices

    def _read_specs(self, composed: Composed, entries: Sequence[Entry], recorded: Recorded) -> Specs:
        specs = Specs(self.catalogue, composed, self.problems, recorded)
        for group in (*GROUPS, *PARTS):
            of_group = [entry for entry in entries if entry.key == group and group in GROUPS]
            searched = [name for entry in of_group for name in choices_of(entry, self.catalogue, self.problems)]
            always = not any(entry.conditions for entry in of_group)
            specs.read(group, list(dict.fromkeys(searched)), always=always)
        specs.set_fixed(self.overrides, self.notes)
        specs.set_values(self.overrides)
        specs.check()
        return specs

    # sampler, scheduler, tracking, cluster

    def _check_parts(self, specs: Specs, space: Space) -> int:
        """Check the parts with each other; how many trials there will be."""
        built: dict[str, Any] = {}
        for part in PARTS:
            spec = specs.of[part][specs.chosen[part]]
            try:
                made = build(spec)
            except ConfigError:
                continue  # reported with the specs
            except ValueError as error:
                first, _, rest = str(error).partition(" ")
                known = first in specs.arguments(part, spec)
                self.problems.append(Problem(f"{part}.{first}", rest) if known else Problem(part, str(error)))
                continue
            except Exception as error:  # it may be code of the user's, which raises what it likes
                why = f"raises {type(error).__name__}: {error}"
                self.problems.append(Problem(part, why, specs.chosen[part]))
                continue
            if lacking := [name for name in PART_HAS[part] if not hasattr(made, name)]:
                why = f"is no {part}: {spec.get('_target_')} gives a {type(made).__name__} without {', '.join(lacking)}"
                self.problems.append(Problem(part, why, specs.chosen[part]))
                continue
            built[part] = made
        if not self.sound:
            return 0
        self._check_resources()
        epochs, trials = self.settings["epochs"], int(self.settings["trials"])
        if "seed" in space.keys and int(self.settings["repeat"] or 1) > 1:
            why = (
                "takes seeds of its own for each configuration, and the search takes seeds, too; leave one of them out"
            )
            self.problems.append(Problem("repeat", why, self.settings["repeat"]))
        grace = getattr(built.get("scheduler"), "grace_epochs", None)
        if grace is not None and grace >= epochs:
            why = f"must be below epochs ({epochs}), or nothing would be stopped"
            self.problems.append(Problem("scheduler.grace_epochs", why, grace))
        if not space.parameters and not self.problems:
            self.notes.append("nothing is searched: one trial")
            return 1
        return self._limit(built["sampler"], space, trials) if built.get("sampler") else trials

    def _limit(self, sampler: Any, space: Space, trials: int) -> int:
        """How many trials the sampler can give; a grid gives all of its points unless the user says how many."""
        problems = sampler.problems(space, trials)
        self.problems += [Problem("sampler", why, self.chosen.get("sampler")) for why in problems]
        if problems:
            return trials
        limit = int(sampler.limit(space, trials))
        if not self._asks_for_trials():
            return limit
        if limit < trials:
            self.notes.append(f"the space has {limit:,} configurations: {limit:,} trials, not {trials:,}")
        return min(limit, trials)

    def _asks_for_trials(self) -> bool:
        """Whether the number of trials is wanted by anybody: typed, or written in a YAML other than our own root file."""
        if "trials" in self.overrides:
            return True
        where = self._located(Problem("trials", "")).where
        ours = CONF / "launch.yaml"
        written = where is not None and not where.startswith(f"{ours}:")
        return written or self.settings["trials"] != yaml_files.read(ours)["trials"]

    def _check_resources(self) -> None:
        on_gpu = self.settings["device"].startswith("cuda")
        if on_gpu and self.settings["gpus_per_trial"] == 0:
            why = "needs gpus_per_trial above 0: a trial sees only the GPUs that it reserves"
            self.problems.append(Problem("device", why, self.settings["device"]))
        if self.chosen.get("cluster") != "local":
            return
        if on_gpu and not gpus():
            why = "this machine has no GPU; device=auto trains on its CPUs, cluster=ray on other machines"
            self.problems.append(Problem("device", why, self.settings["device"]))
        for key, there, unit in (("cpus_per_trial", cpus(), "CPU"), ("gpus_per_trial", gpus(), "GPU")):
            if (self.settings[key] or 0) > there:
                why = f"this machine has {there or 'no'} {unit}{'s' if there > 1 else ''}; cluster=ray uses others"
                self.problems.append(Problem(key, why, self.settings[key]))

    def _fits(self, trials: int) -> int | None:
        """How many trials have room at a time; None where the cluster decides."""
        if self.chosen.get("cluster") != "local" or self.problems:
            return None
        room = cpus() / self.settings["cpus_per_trial"]
        if each := self.settings["gpus_per_trial"] or (0 if self.settings["device"] == "cpu" else gpus() and 1):
            room = min(room, gpus() / each if each >= 1 else gpus() * math.floor(1 / each))
        most = [math.floor(room + 1e-9), trials * self.settings["repeat"], self.settings["max_concurrent"]]
        return int(min(number for number in most if number is not None))

    # where a problem came from

    def _located(self, problem: Problem) -> Problem:
        """The problem with file and line, where its key was written in a YAML."""
        if problem.key in self.overrides.fixed and problem.why.startswith("must be") and "list" not in problem.why:
            return replace(problem, hint=list_of(problem.key, self.overrides.text(problem.key) or ""))
        if problem.where or problem.key in self.overrides or problem.key.startswith("/"):
            return problem
        keys = problem.key.split(".")
        roots = [f"experiment/{self.chosen.get('experiment')}.yaml", f"{self.config_name}.yaml"]
        places = [(folder / root, keys) for folder in reversed(self.catalogue.folders) for root in roots]
        chosen = self.catalogue.files.get(keys[0], {}).get(self.chosen.get(keys[0], ""))
        if chosen is not None and len(keys) > 1:
            places.append((chosen, keys[1:]))
        for path, inside in places:
            if line := yaml_files.line_of(path, inside):
                return replace(problem, where=f"{path}:{line}")
        return problem
