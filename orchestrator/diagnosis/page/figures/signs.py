"""How far the weight gradients of a unit in the first layer agree in sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reports.figure import Figure

if TYPE_CHECKING:
    from orchestrator.training.diagnosis.study import Diagnosis


def figure(found: Diagnosis) -> Figure | None:
    """None where it says nothing."""
    if found.sign_agreement is None:
        return None
    share = 100 * found.sign_agreement
    said = (
        f"For one image, {share:.1f} % of the gradients of the weights into a unit of the first layer have the same sign, in the"
        " mean over units and images; gradients of 0 are left out."
    )
    if found.sign_agreement == 1:
        said += " All agree, as they must where no input is negative: the weights of a unit can only grow or shrink together."
    bar = f'<meter min="50" max="100" value="{share:.2f}" style="width:min(30rem,100%)">{share:.1f} %</meter>'
    return Figure(name="signs", title="Can the weights of a unit go different ways?", text=said, html=bar)
