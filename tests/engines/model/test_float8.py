"""Float8 products are close to exact ones; they are asked for, never taken by themselves."""

import pytest
import torch

from carrara.engines.model.float8 import Float8Weight, can_be_float8
from carrara.engines.model.integer import can_be_integer
from carrara.engines.model.small import small_kind

CPU = torch.device("cpu")


@pytest.mark.parametrize(("outputs", "inputs", "rows"), [(48, 64, 1), (33, 72, 5), (16, 16, 17)])
def test_a_product_is_as_close_as_its_steps(outputs: int, inputs: int, rows: int) -> None:
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    exact, found = x @ weight.T, Float8Weight(weight)(x)
    assert found.shape == exact.shape
    assert 0 < (found - exact).norm() < 0.06 * exact.norm()


def test_a_loud_row_takes_nothing_from_its_neighbours() -> None:
    weight, x = Float8Weight(torch.randn(32, 64)), torch.randn(4, 64)
    alone = weight(x)
    x[0] *= 1e4
    torch.testing.assert_close(weight(x)[1:], alone[1:])


def test_small_copies_are_taken_as_asked() -> None:
    assert not can_be_float8(CPU)
    assert small_kind(CPU, False) is None
    assert small_kind(CPU, None) is None  # answers get worse with them
    assert small_kind(CPU, True) == ("int8" if can_be_integer(CPU) else None)
