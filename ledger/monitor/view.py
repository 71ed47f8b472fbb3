"""One look at one URL: what it shows as its checkpoint, parsed, and who of the known keys signed and cosigned it.

Whether that is enough, and what follows from it, is judged in the watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from ledger.config import MONITOR_LOOK_AGAIN_SECONDS, MONITOR_LOOK_TIMEOUT_SECONDS
from ledger.core.errors import LogGuarded, LogUnreachable, Malformed
from ledger.core.note import Checkpoint, VerifierKey
from ledger.core.quorum import TrustPolicy
from ledger.core.watch import Finding, Head, Kind, cosignatures, read_note, signers
from ledger.log_client import LogClient


class Known(NamedTuple):
    """Log keys by what they count for: `now` for what the log is now, `ever` for what it once was."""

    now: Collection[VerifierKey]
    ever: Collection[VerifierKey]


class View(NamedTuple):
    """What one URL shows."""

    client: LogClient
    checkpoint: Checkpoint
    note: bytes
    signers: frozenset[VerifierKey]
    cosigned: dict[VerifierKey, int]

    @property
    def url(self) -> str:
        return self.client.url

    @property
    def size(self) -> int:
        return self.checkpoint.size

    @property
    def head(self) -> Head:
        return Head(self.checkpoint.size, self.checkpoint.root)

    def is_signed(self, keys: Collection[VerifierKey]) -> bool:
        return not self.signers.isdisjoint(keys)


class Away(NamedTuple):
    """Nothing could be looked at."""

    kind: Kind
    detail: str


async def look(client: LogClient, origin: str, known: Known, policy: TrustPolicy) -> View | Finding | Away:
    """The checkpoint of one URL. What is none is looked at again before it is a finding: it may be a proxy's page that
    is gone in a moment."""
    for again in (True, False):
        try:
            async with asyncio.timeout(MONITOR_LOOK_TIMEOUT_SECONDS):
                note = await client.checkpoint()
        except TimeoutError:
            return Away(Kind.UNREACHABLE, f"no checkpoint within {MONITOR_LOOK_TIMEOUT_SECONDS:g} seconds")
        except LogUnreachable as error:
            return Away(Kind.UNREACHABLE, str(error))
        except LogGuarded as error:
            return Away(Kind.GUARDED, str(error))
        except Malformed as error:
            checkpoint: Checkpoint | Finding = Finding(Kind.MALFORMED, str(error), 1)
        else:
            checkpoint = read_note(note, origin)
        if isinstance(checkpoint, Checkpoint):
            break
        if again:
            await asyncio.sleep(MONITOR_LOOK_AGAIN_SECONDS)
    if isinstance(checkpoint, Finding):
        return checkpoint
    signed = signers(checkpoint, dict.fromkeys((*known.now, *known.ever)))
    if isinstance(signed, Finding):
        return signed
    cosigned = cosignatures(checkpoint, policy)
    if isinstance(cosigned, Finding):
        return cosigned
    return View(client, checkpoint, note, frozenset(signed), cosigned)
