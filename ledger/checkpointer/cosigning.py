"""The witnesses of one site: each is asked in a task of its own, so that a slow one delays nobody.

A witness gets the newest checkpoint; what comes back is merged into the stored one. What a witness says of the log
counts when the next checkpoint is to be signed (`said`), and its evidence against the log is kept in files.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import asyncpg

from ledger import config
from ledger.core.agreement import Ahead, Disagrees, Said, Unreachable
from ledger.core.errors import BadSignature, LedgerError, WitnessAhead, WitnessConflict, WitnessUnreachable
from ledger.core.note import Checkpoint, Signature, VerifierKey
from ledger.core.quorum import TrustPolicy
from ledger.core.witnessing import Dispute
from ledger.store import checkpoints as store
from ledger.store.sites import SiteRow
from ledger.witness.client import Prove, WitnessClient

log = logging.getLogger(__name__)


@dataclass
class WitnessState:
    """One witness. `said` is None while it agrees; `held` is what it claims to hold instead of what was offered."""

    client: WitnessClient
    size: int = 0
    cosigned_at: float = 0.0
    said: Said | None = None
    held: Checkpoint | None = None
    failures: int = 0
    offered: Checkpoint | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.client.witness.name

    def public(self) -> dict[str, object]:
        """For the database's row and for people."""
        detail = "" if self.said is None else getattr(self.said, "detail", "it knows a longer log")
        return {"name": self.name, "size": self.size, "cosignedAt": round(self.cosigned_at), "trouble": detail}


class Cosigning:
    """Cosignatures for the checkpoints of one site."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        site: SiteRow,
        policy: TrustPolicy,
        clients: Sequence[WitnessClient],
        prove: Prove,
        evidence: Path,
    ) -> None:
        self.states = [WitnessState(client) for client in clients]
        self.changed: Callable[[], None] = lambda: None
        """Called when a witness says something that the next decision should know."""
        self._pool, self._site, self._policy, self._prove = pool, site, policy, prove
        self._evidence = evidence
        self._lines: OrderedDict[int, dict[VerifierKey, Signature]] = OrderedDict()
        self._latest: Checkpoint | None = None
        self._merging = asyncio.Lock()

    def note(self, checkpoint: Checkpoint) -> tuple[bytes, bool]:
        """A checkpoint with the cosignatures that it has by now, and whether they are a quorum."""
        lines = self._lines.get(checkpoint.size, {})
        signatures = (*checkpoint.signatures, *lines.values())
        return checkpoint._replace(signatures=signatures).encode(), self._policy.satisfied(lines.keys())

    def resume(self, checkpoint: Checkpoint) -> None:
        """The checkpoint that was signed last, with the cosignatures that it has already."""
        lines = {}
        for witness in self._policy.witnesses:
            try:
                at = checkpoint.cosigned_at(witness.vkey)
            except BadSignature:
                continue
            if at is None:
                continue
            ours = [s for s in checkpoint.signatures if (s.name, s.key_id) == (witness.vkey.name, witness.vkey.key_id)]
            lines[witness.vkey] = max(ours, key=lambda line: line.value[:8])
            for state in self.states:
                if state.client.witness.vkey == witness.vkey:
                    state.size, state.cosigned_at, state.offered = checkpoint.size, at, checkpoint
        known = {(witness.vkey.name, witness.vkey.key_id) for witness in self._policy.witnesses}
        signed = tuple(s for s in checkpoint.signatures if (s.name, s.key_id) not in known)
        self._latest = checkpoint._replace(signatures=signed)
        self._lines[checkpoint.size] = lines

    def publish(self, checkpoint: Checkpoint) -> None:
        """A new checkpoint, with the log's signatures alone: it is offered to everybody."""
        self._latest = checkpoint
        self._lines.setdefault(checkpoint.size, {})
        while len(self._lines) > config.CHECKPOINT_COSIGNING_SIZES:
            self._lines.popitem(last=False)
        for state in self.states:
            state.wake.set()

    async def ask_all(self) -> None:
        """Offer the last checkpoint to every witness before the first new one is signed: one may know of more."""
        await asyncio.gather(*(self._offer(state) for state in self.states))

    def said(self) -> dict[str, Said]:
        """What each witness that does not simply agree says."""
        return {f"witness {state.name}": state.said for state in self.states if state.said is not None}

    def held(self, name: str) -> Checkpoint | None:
        """What a witness that is ahead shows as its last checkpoint, unverified."""
        return next((state.held for state in self.states if f"witness {state.name}" == name), None)

    def report(self) -> str:
        return json.dumps([state.public() for state in self.states], ensure_ascii=False)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for state in self.states:
                group.create_task(self._follow(state))

    async def _follow(self, state: WitnessState) -> None:
        while True:
            state.wake.clear()
            if self._is_due(state):
                await self._offer(state)
            if state.said is not None:
                backoff = config.CHECKPOINT_WITNESS_BACKOFF_SECONDS
                await asyncio.sleep(backoff[min(state.failures, len(backoff)) - 1])
                continue
            try:
                async with asyncio.timeout(config.CHECKPOINT_LOOK_SECONDS):
                    await state.wake.wait()
            except TimeoutError:
                pass

    def _is_due(self, state: WitnessState) -> bool:
        latest = self._latest
        if latest is None:
            return False
        fresh = time.time() - state.cosigned_at < config.CHECKPOINT_REFRESH_SECONDS
        return state.said is not None or latest.body != (state.offered.body if state.offered else b"") or not fresh

    async def _offer(self, state: WitnessState) -> None:
        """One attempt with one witness; whatever comes of it is in its state."""
        checkpoint = self._latest
        if checkpoint is None:
            return
        before = type(state.said)
        try:
            line = await state.client.cosign(checkpoint, self._prove)
        except WitnessUnreachable as error:
            state.said = Unreachable(str(error))
            state.failures += len(config.CHECKPOINT_WITNESS_BACKOFF_SECONDS) if error.permanent else 1
        except WitnessAhead as error:
            state.said, state.held = Ahead(error.size), error.evidence.held
            self._trouble(state, error.evidence, error)
        except WitnessConflict as error:
            state.said, state.held = Disagrees(str(error)), error.evidence.held
            self._trouble(state, error.evidence, error)
        except LedgerError as error:  # the proof could not be made just now
            state.said = Unreachable(str(error))
            state.failures += 1
        except Exception as error:
            if state.said is None:
                log.exception("site %s: the witness %s could not be asked", self._site.site, state.name)
            state.said = Unreachable(f"unexpected-{type(error).__name__}")
            state.failures += 1
        else:
            state.said, state.held, state.failures = None, None, 0
            state.size, state.offered = checkpoint.size, checkpoint
            state.cosigned_at = int.from_bytes(line.value[:8], "big")
            try:
                await self._merge(checkpoint, state.client.witness.vkey, line)
            except LedgerError as error:  # the database is away: it is asked for again
                state.offered = None
                log.info("site %s: a cosignature could not be stored yet: %s", self._site.site, error)
                await asyncio.sleep(config.CHECKPOINT_WITNESS_BACKOFF_SECONDS[0])
        if type(state.said) is not before:
            self.changed()

    def _trouble(self, state: WitnessState, dispute: Dispute, error: LedgerError) -> None:
        state.failures += 1
        path = self._keep(dispute)
        if state.failures == 1:
            log.error("site %s: %s. The evidence is kept in %s", self._site.site, error, path)

    def _keep(self, dispute: Dispute) -> Path | None:
        """Both checkpoints in a file beside the anchor, once. Public data: whoever finds it may publish it."""
        text = f"witness {dispute.witness}\nanswered {dispute.status}\nold {dispute.old}\n\noffered:\n".encode()
        text += dispute.offered.encode() + b"\nheld:\n" + (dispute.held.encode() if dispute.held else b"not shown\n")
        path = self._evidence / f"{self._site.site}-{sha256(text).hexdigest()[:16]}.txt"
        try:
            self._evidence.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.exists() or len(os.listdir(self._evidence)) >= config.EVIDENCE_MAX_FILES:
                return path
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.error("site %s: evidence could not be written: %s", self._site.site, error.strerror)
            return None
        return path

    async def _merge(self, checkpoint: Checkpoint, vkey: VerifierKey, line: Signature) -> None:
        """The stored checkpoint of this size with one more cosignature, in place of that witness's older one."""
        async with self._merging:
            lines = self._lines.get(checkpoint.size)
            if lines is None:
                return
            lines[vkey] = line
            note, cosigned = self.note(checkpoint)
            await store.put_cosignatures(self._pool, self._site.site_id, checkpoint.size, note, cosigned)
