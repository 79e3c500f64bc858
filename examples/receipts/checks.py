"""What must hold between the fields of a receipt."""

from typing import Any


class DoesNotAddUp(ValueError):
    """Prices and total contradict each other; `paths` are the fields that may be wrong, by JSON pointer."""

    def __init__(self, found: float, total: float, count: int) -> None:
        super().__init__(f"total is {total:.2f}, the items add up to {found:.2f}")
        self.paths = ("/total", *(f"/items/{index}/price" for index in range(count)))


def adds_up(receipt: Any) -> None:
    """total == sum(items), to the cent."""
    total, prices = receipt.total, [item.price for item in receipt.items]
    if round(100 * total) != round(100 * sum(prices)):
        raise DoesNotAddUp(sum(prices), total, len(prices))
