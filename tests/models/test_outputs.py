"""What networks return."""

from __future__ import annotations

import subprocess
import sys

import torch

from models.outputs import Outputs, main_output


def test_main_output_of_a_tensor_is_the_tensor_itself() -> None:
    logits = torch.zeros(2, 3)

    assert main_output(logits) is logits


def test_main_output_leaves_the_auxiliary_ones_out() -> None:
    main, auxiliary = torch.zeros(2, 3), torch.ones(2, 3)

    assert main_output(Outputs(main, (auxiliary,))) is main


def test_importing_the_outputs_does_not_import_torch() -> None:
    code = "import sys, models.outputs; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
