"""What a run wrote down: the contract in `api`, its stores beside it."""
