"""What the supervisor does to the store beside changes.

After a key was exchanged, what is stored is encrypted anew, so that the old one is needed no more and opens nothing.
At the end the store is left tidy, so that a copy of its file has all of it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from deployments.store.protocol import StoreAway
from deployments.store.sealed import SealedStore

AGAIN_S = 60.0
"""How long to wait after a store was away, or held a record that no key opens."""

logger = logging.getLogger(__name__)


async def tidied(store: SealedStore) -> None:
    """`SealedStore.tidy` before the store's processes end; a store that is away is left as it is."""
    with suppress(StoreAway):
        await asyncio.to_thread(store.tidy)


async def renew(store: SealedStore) -> None:
    """`SealedStore.renew` until it is done, beside all else; the log says so."""
    told = ""
    while True:
        try:
            renewed = await asyncio.to_thread(store.renew)
            break
        except StoreAway as error:
            if str(error) != told:
                logger.warning("not all that is stored could be encrypted with the first key: %s", error)
            told = str(error)
            await asyncio.sleep(AGAIN_S)
    if renewed or told:
        logger.info("%d records were encrypted anew: all that is stored needs the first key only", renewed)
