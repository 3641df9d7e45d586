"""The catalogue of products as it is in force: read once for each change of it, kept with the installation.

For both doors; writes nothing.
"""

from __future__ import annotations

import asyncio

from reconciler.installation import Installation
from reconciler.model import product
from reconciler.model.product import KINDS, Catalogue
from reconciler.store import products

_TRIES = 20
_MUCH = 500


async def catalogue(installation: Installation) -> Catalogue:
    """All products, releases and schedules with their numbers."""
    for _ in range(_TRIES):
        resources = installation.snapshot.current.of_kinds(KINDS)
        known = installation.catalogue
        if known is not None and known.resources is resources:
            return known
        numbers, changed = await installation.database.read(lambda c: (products.load(c), products.changed(c)))
        if len(resources) > _MUCH:
            found = await asyncio.to_thread(product.catalogue, resources, numbers, changed)
        else:
            found = product.catalogue(resources, numbers, changed)
        same = installation.snapshot.current.of_kinds(KINDS) is resources
        if same and product.complete(found):
            installation.catalogue = found
            return found
        await asyncio.sleep(0.01)  # a new state is stored and about to be shown
    if same:
        installation.catalogue = found
    return found
