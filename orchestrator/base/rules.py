"""Rules by which a sweep derives what its configuration leaves open. A sweep keeps those that it began with; they are numbered.

1. Repeats take the seeds `seed`, `seed + 1`, ...; random search shuffles a finite space; asha stops nobody who ties, and does not
   count those that diverge.
2. The seeds of repeats are derived, so that sweeps with neighbouring seeds share no trials; random search draws a finite space
   parameter by parameter; asha settles ties for the earlier trial, and those that diverge lose their rung.
3. In MLflow a trial's run is called after its searched values and shows every parameter that any trial has; single values stand
   at step 0; data set and source are given; a sweep without a result has failed. Before, a run was called by its uid, showed 20
   parameters at most, and single values stood at the step of the best epoch.
"""

from __future__ import annotations

import json
from hashlib import blake2b

FIRST_RULES = 1
SHOWN_RULES = 3
"""The first under which MLflow shows what rule 3 says."""

RULES = 3
"""Those of new sweeps."""


def rules_of(plan: str) -> int:
    """The rules under which a sweep began, by the plan in its first event; today's where it recorded none."""
    return int(json.loads(plan).get("rules", FIRST_RULES)) if plan else RULES


def repeat_seed(seed: int, repeat: int, rules: int = RULES) -> int:
    """The seed of a configuration's repeat number `repeat`, in [0, 2**32) if `seed` is; repeat 0 has `seed` itself."""
    if rules == FIRST_RULES:
        return seed + repeat
    if repeat == 0:
        return seed
    return int.from_bytes(blake2b(f"repeat/{seed}/{repeat}".encode(), digest_size=4).digest(), "big")
