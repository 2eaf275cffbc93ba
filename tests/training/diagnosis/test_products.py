import math

import pytest
import torch

from orchestrator.training.diagnosis import products as module
from orchestrator.training.diagnosis.products import products


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_products_are_those_of_the_matrices_that_fit() -> None:
    first, second, third = drawn(6, 4), drawn(5, 6), drawn(3, 5)
    found = products([first, second, third, drawn(3, 4), drawn(2, 3)])
    assert [one.layers for one in found] == [1, 2, 3]
    values = torch.linalg.svdvals((third @ second @ first).double())
    assert found[2].values == pytest.approx(values.tolist(), rel=1e-5)
    assert found[2].rms == pytest.approx(values.square().mean().sqrt().item(), rel=1e-5)
    assert (found[2].most, found[2].median) == (found[2].values[0], found[2].values[1])
    assert found[1].median == pytest.approx(sum(found[1].values[1:3]) / 2)


def test_the_prediction_is_k_sigma_squared_to_half_the_layers_of_square_matrices() -> None:
    matrices = [2 * torch.eye(4)] * 3  # k sigma^2 = 4 * (4 * 4 / 16) = 4
    assert [one.predicted for one in products(matrices)] == pytest.approx([2.0, 4.0, 8.0])


def test_kernels_are_no_matrices() -> None:
    assert products([drawn(4, 1, 3, 3), drawn(4, 4)]) == []


def test_large_matrices_have_their_mean_square_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = [drawn(300, 200) / math.sqrt(200), drawn(250, 300) / math.sqrt(300)]
    exact = products(matrices)
    monkeypatch.setattr(module, "LARGEST", 100)
    for one, other in zip(products(matrices), exact, strict=True):
        assert one.values == ()
        assert one.median is None
        assert one.rms == pytest.approx(other.rms, rel=0.02)
        assert one.predicted == other.predicted
