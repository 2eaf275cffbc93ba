"""A sweep keeps the rules it began with, whatever version resumes it."""

from __future__ import annotations

import json

from orchestrator.base.rules import FIRST_RULES, RULES
from orchestrator.config import resuming
from orchestrator.config.plan import SweepPlan
from orchestrator.config.planning import plan

KEYS = ["data=synthetic", "model=mlp", "model.width=12", "optimizer=sgd,adam", "scheduler=asha", "trials=2"]


def test_a_sweep_of_before_keeps_the_first_rules_when_it_is_resumed() -> None:
    new = plan([*KEYS, f"seed={2**32 - 1}", "repeat=3"])  # derived seeds need no room above
    assert new.rules == RULES
    written = json.loads(new.to_json())
    del written["rules"]  # as earlier versions wrote it
    old = SweepPlan.from_json(json.dumps(written))
    assert old.rules == FIRST_RULES
    resumed, changes = resuming.checked(old, new, suggested=1)
    assert (resumed.rules, changes) == (FIRST_RULES, {})
    assert SweepPlan.from_json(resumed.to_json()) == resumed

    def drawn(sweep: SweepPlan) -> list[object]:
        sampler = sweep.part("sampler").start(sweep.space, seed=5, mode="max")
        return [sampler.suggest(index) for index in range(2)]

    assert drawn(old) == drawn(resumed)
    shown = [(0, 0.1), (1, 0.1)]
    answers = {
        name: [sweep.part("scheduler").start(mode="max", epochs=9).show(trial, 1, value) for trial, value in shown]
        for name, sweep in {"old": old, "resumed": resumed}.items()
    }
    assert answers == {name: ["continue", "continue"] for name in answers}, "a tie went on then"
    later = new.part("scheduler").start(mode="max", epochs=9)
    assert [later.show(trial, 1, value) for trial, value in shown] == ["continue", "stop"]
