"""Layouts and positions."""

from __future__ import annotations

import pytest

from models.layers.place import Layout


@pytest.mark.parametrize(("layout", "axis"), [(Layout.VECTORS, 1), (Layout.MAPS, 1), (Layout.TOKENS, 2)])
def test_axis_of_the_features(layout: Layout, axis: int) -> None:
    assert layout.feature_axis == axis
