"""Every invariant of a sweep, a line each; its checks lie with the record that they are about."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.verify import of_files as files
from orchestrator.verify import of_journal as journal
from orchestrator.verify import of_predictions as predictions
from orchestrator.verify import of_store as store
from orchestrator.verify.evidence import SweepEvidence
from orchestrator.verify.replay import same_suggestions
from orchestrator.verify.rules import Finding, Invariant, NotChecked, PartlyChecked


def _database_is_whole(sweep: SweepEvidence) -> Iterator[Finding]:
    for problem in sweep.journal.problems:
        yield Finding(problem, "a whole database", "the journal")


def _store_is_whole(sweep: SweepEvidence) -> Iterator[Finding]:
    """The rows of the sweep hold what such rows can; the whole database, which others share, is looked at on request."""
    for problem in dict.fromkeys(sweep.reader.problems if sweep.reader else ()):
        yield Finding(problem, "what its column holds", "the MLflow store")
    for problem in sweep.reader.foreign_parts() if sweep.reader else ():
        yield Finding(problem, "tables alone", "the MLflow store")
    if not sweep.thorough:
        raise PartlyChecked("the sweep's own rows")
    problems = sweep.reader.integrity() if sweep.reader else None
    if problems is None:
        raise NotChecked("the server's database is not at hand")
    for problem in problems:
        yield Finding(problem, "a whole database", "the MLflow store")


def _journal_is_as_before(sweep: SweepEvidence) -> Iterator[Finding]:
    if sweep.journal.changed():
        yield Finding("its rows changed during the check", "the same before and after", "the journal")


def _store_is_as_before(sweep: SweepEvidence) -> Iterator[Finding]:
    changed = sweep.reader.changed() if sweep.reader else None
    if changed is None:
        raise NotChecked("the server's database is not at hand")
    if changed:
        yield Finding("the sweep's runs changed during the check", "the same before and after", "the MLflow store")


INVARIANTS = (
    Invariant(
        1,
        "every trial has one run, every run its trial",
        stored_trial=(store.one_run,),
        stored_sweep=(store.only_known_runs,),
    ),
    Invariant(
        2,
        "every run has ended, as its trial has",
        stored_trial=(store.run_ended,),
        stored_sweep=(store.sweep_run_ended,),
    ),
    Invariant(3, "every trial ends once, and nothing follows", trial=(journal.one_end,)),
    Invariant(4, "the totals are right everywhere", sweep=(journal.totals,), stored_sweep=(store.totals_of_store,)),
    Invariant(
        7,
        "every epoch is there once, as it was reported",
        trial=(journal.epochs_in_order,),
        stored_trial=(store.rows_as_reported,),
        stored_sweep=(store.rows_of_sweep,),
    ),
    Invariant(8, "no epoch is there by halves", stored_trial=(store.whole_epochs,)),
    Invariant(
        9,
        "the newest metrics are the last of the histories",
        stored_trial=(store.newest_is_last,),
        stored_sweep=(store.newest_of_sweep_is_last,),
    ),
    Invariant(
        10,
        "every run begins and ends when the journal says",
        stored_trial=(store.times,),
        stored_sweep=(store.clock, store.times_of_sweep),
    ),
    Invariant(
        11,
        "settings are those that were suggested",
        trial=(journal.configuration,),
        sweep=(journal.opening_repeats_plan,),
        stored_trial=(store.params,),
        stored_sweep=(store.params_of_sweep,),
    ),
    Invariant(12, "no trial is there twice", sweep=(journal.distinct,), stored_sweep=(store.distinct_runs,)),
    Invariant(
        13,
        "attempts are counted without gaps",
        trial=(journal.attempts,),
        sweep=(journal.strays,),
        stored_trial=(store.attempts_in_run,),
    ),
    Invariant(14, "nothing is written by an attempt after the next began", trial=(journal.fenced,)),
    Invariant(15, "the sampler suggests the same again", sweep=(same_suggestions,)),
    Invariant(16, "every stored number is finite", stored_trial=(store.storable,)),
    Invariant(
        17,
        "the best trial is the best",
        sweep=(journal.best_by_journal, journal.best_is_described),
        stored_sweep=(store.best_is_right,),
    ),
    Invariant(18, "the best value is that of the kept weights", trial=(journal.kept_value, files.kept_best)),
    Invariant(21, "scores follow from the stored predictions", trial=(predictions.recomputed_scores,)),
    Invariant(
        22,
        "files are whole and unchanged",
        trial=(files.declared_files, files.kept_beside),
        sweep=(files.no_leftovers, files.own_mark, files.published_files),
        stored_trial=(files.stored_files,),
        stored_sweep=(files.stored_files_of_sweep,),
    ),
    Invariant(23, "predictions are of the same examples in the same order", trial=(predictions.predictions_fit,)),
    Invariant(24, "no more is kept than should be", sweep=(files.few_checkpoints, files.few_weights)),
    Invariant(28, "the databases are whole", sweep=(_database_is_whole,), stored_sweep=(_store_is_whole,)),
    Invariant(31, "the journal is the one that MLflow was given", stored_sweep=(store.same_journal,)),
    Invariant(
        32,
        "what is shown in words is what was published",
        stored_trial=(files.texts,),
        stored_sweep=(files.texts_of_sweep,),
    ),
    Invariant(
        33,
        "names and tags are those that the journal gives",
        stored_trial=(store.tags,),
        stored_sweep=(store.tags_of_sweep,),
    ),
    Invariant(34, "every run lies in its experiment", stored_sweep=(store.experiment,)),
    Invariant(29, "checking changes nothing", sweep=(_journal_is_as_before,), stored_sweep=(_store_is_as_before,)),
)
