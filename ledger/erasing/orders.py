"""Ordering erasures, and telling how far they are. Carrying them out is the eraser's part (execution, eraser)."""

from __future__ import annotations

from typing import NamedTuple

from ledger.administration import Administration
from ledger.core.admin_act import Role
from ledger.erasing.messages import ErasureInput, ErasureStatus, Instruction
from ledger.site import Site
from ledger.store.reads import Reads


class By(NamedTuple):
    """Who orders, for the administrative log: an API key's label, a user's name, the ledger itself."""

    actor: str
    role: Role


class Orders:
    """Orders of all sites. `batch_seconds`: how long an order may wait for others to be mixed with; 0: not at all."""

    def __init__(self, reads: Reads, administration: Administration, batch_seconds: float = 0.0) -> None:
        self._reads = reads
        self._administration = administration
        self._batch_seconds = batch_seconds

    async def order(self, site: Site, request: ErasureInput, by: By) -> ErasureStatus:
        """Block the subject from now on, and have its events erased (or, with the level `restrict`, left alone).

        The administrative act is recorded first. Raises `InputRefused` and `Unavailable`.
        """
        raise NotImplementedError

    async def lift(self, site: Site, erasure_id: str, instruction: Instruction, evidence: str | None, by: By) -> None:
        """End a restriction. `NotFound`, or `InputRefused` where there is none to end."""
        raise NotImplementedError

    async def status(self, site: Site, erasure_id: str) -> ErasureStatus:
        """How far an order is; `NotFound` if the site has none of that id."""
        raise NotImplementedError
