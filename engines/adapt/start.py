"""Begin a training with an adapter that is there, instead of with one that adds nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from carrara.engines.adapt.network import LowRank, Network
from carrara.engines.errors import LoadingError
from carrara.engines.model.load import projections
from carrara.engines.model.lora import CONFIG_FILE, load_adapter


def begin_with(network: Network, folder: Path) -> None:
    """Copy the adapter in `folder` into what `network` trains. The optimiser begins afresh.

    Projections that read the same input share their A here, so they must in the adapter: those that `carrara adapt`
    writes do.

    Raises:
        LoadingError: no readable adapter; or of another rank, scale or model, or without a shared A.
    """
    recipe, adapter = network.recipe, load_adapter(folder)
    if recipe.method != "lora":
        raise LoadingError(f"{folder}: an adapter is what a training of method 'lora' begins with")
    if (adapter.rank, adapter.scale) != (recipe.rank, recipe.alpha / recipe.rank):
        raise LoadingError(
            f"{folder / CONFIG_FILE}: rank {adapter.rank} and alpha {adapter.scale * adapter.rank:g}, the recipe has "
            f"{recipe.rank} and {recipe.alpha:g}; set rank and alpha to those of the adapter"
        )
    places = projections(network.model)
    if places.keys() != adapter.pairs.keys():
        odd = min(places.keys() ^ adapter.pairs.keys())
        raise LoadingError(f"{folder}: {odd!r} is in the adapter or in the model, not in both")
    filled: set[str] = set()
    with torch.no_grad():
        for name, place in places.items():
            ours = network.low_rank[network.name_of(place.layer)]
            assert isinstance(ours, LowRank)
            down, up = (half.to(ours.down) for half in adapter.pairs[name])
            part = ours.up[place.outputs]
            if down.shape != ours.down.shape or up.shape != part.shape:
                raise LoadingError(f"{folder}: {name!r} is of another size than in this model")
            if network.name_of(place.layer) in filled and not torch.equal(down, ours.down):
                raise LoadingError(
                    f"{folder}: {name!r} has an A of its own; a training can go on from adapters whose projections "
                    "of one input share it, as `carrara adapt` writes them"
                )
            ours.down.copy_(down)
            part.copy_(up)
            filled.add(network.name_of(place.layer))
