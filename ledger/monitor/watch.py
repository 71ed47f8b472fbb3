"""The watch over one log: each round it looks at every URL, compares what they show, and moves its own head on.

A round never waits for whoever is told of its findings. What servers do not answer is an alarm and not a fault; what
they do answer is judged as if they were the log's worst enemy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ledger.config import (
    MONITOR_CLOCK_SKEW_SECONDS,
    MONITOR_GUARDED_PAUSE_SECONDS,
    MONITOR_LAG_PATIENCE_SECONDS,
    MONITOR_LOOK_AGAIN_SECONDS,
    MONITOR_QUORUM_PATIENCE_SECONDS,
    MONITOR_REWOUND_PATIENCE_SECONDS,
    MONITOR_UNREACHABLE_PATIENCE_SECONDS,
)
from ledger.core.errors import LogGuarded, LogUnreachable, Malformed
from ledger.core.follow import Follower
from ledger.core.heads import COSIGNED_SLACK_MS
from ledger.core.merkle import Frontier
from ledger.core.note import VerifierKey, parse_checkpoint
from ledger.core.quorum import TrustPolicy
from ledger.core.watch import (
    Finding,
    Growth,
    Head,
    Kind,
    cosignatures,
    fork,
    fresh,
    signers,
    unsigned,
)
from ledger.log_client import LogClient
from ledger.memory import MemoryDamaged, SqliteMemory
from ledger.monitor.advance import Advance, Found, Start, in_thread, judge_between
from ledger.monitor.announce import Announcer
from ledger.monitor.record import Place, Record
from ledger.monitor.view import Away, Known, View, look
from ledger.terminal import plain

log = logging.getLogger(__name__)

PATIENCE_SECONDS = {
    Kind.UNREACHABLE: MONITOR_UNREACHABLE_PATIENCE_SECONDS,
    Kind.REWOUND: MONITOR_REWOUND_PATIENCE_SECONDS,
    Kind.QUORUM: MONITOR_QUORUM_PATIENCE_SECONDS,
}


class Aim(NamedTuple):
    """What the auditor demands. Ages in seconds; `max_silence_seconds` 0: a log may be quiet for ever."""

    vkey: VerifierKey
    log_id: bytes | None
    policy: TrustPolicy
    max_age_seconds: int
    max_silence_seconds: int = 0

    @property
    def origin(self) -> str:
        return self.vkey.name


class Watch:
    """One log at any number of URLs. Call `round` as often as wanted; `settle` once at the end of a single look."""

    def __init__(
        self,
        aim: Aim,
        clients: Sequence[LogClient],
        record: Record,
        clock: Callable[[], float],
        *,
        entries: bool = True,
    ) -> None:
        """`clock`: unix seconds. `entries`: try to read them."""
        self.aim = aim
        self.record = record
        self.conditions: dict[tuple[Kind, str], str] = {}
        """What is amiss as of the last round, faults apart: (kind, url) -> detail."""
        self.rounds = 0
        self.completed_at = 0
        """When every URL was last judged (unix seconds)."""
        self.clients = list(clients)
        self.announcer = Announcer(record, aim.origin)
        self._clock = clock
        self._refused: set[str] = set()
        self._behind: set[tuple[str, Head]] = set()
        self._guarded: dict[str, int] = {}
        """URLs whose entries could not be read, and when that was tried last (unix seconds)."""
        self._memory: SqliteMemory | None = None
        self._follower: Follower | None = None
        if entries:
            self._open_memory(record.memory)
        self._adopt()

    def _open_memory(self, path: Path) -> None:
        try:
            self._memory = SqliteMemory(path, self.aim.origin)
            self._follower = Follower(self.aim.origin, self._memory, self.aim.log_id)
        except (MemoryDamaged, Malformed) as error:
            log.warning("%s; the entries are read again from the first", error)
            if self._memory is not None:
                self._memory.close()
            for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                name.unlink(missing_ok=True)
            self._memory = SqliteMemory(path, self.aim.origin)
            self._follower = Follower(self.aim.origin, self._memory, self.aim.log_id)

    def _adopt(self) -> None:
        """After a crash between the two: what the follower kept was verified, and may be ahead of the record."""
        follower = self._follower
        if follower is None or follower.checkpoint is None:
            return
        kept = parse_checkpoint(follower.checkpoint)
        if kept.size == follower.size > self.record.state.size and kept.root == follower.root():
            self.record.advance(follower.checkpoint, follower.frontier(), int(self._clock()))
            self.record.state.log_id = follower.log_id
            self.record.state.followed = True
            self.record.save()

    @property
    def entries_judged(self) -> bool:
        """Whether every entry up to the head was."""
        return self._follower is not None and self._follower.size >= self.record.state.size > 0

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()

    # --- one round ---

    async def round(self) -> None:
        """Look at every URL once, and conclude."""
        now = int(self._clock())
        self.rounds += 1
        self.conditions, self._refused = {}, set()
        for url in self._guarded:
            self._note_guarded(url)
        looked = await asyncio.gather(*(self._look(client, now) for client in self.clients))
        views = sorted((view for view in looked if view is not None), key=lambda view: view.size)
        self._compare(views)
        for view in views:
            if view.url not in self._refused:
                await self._go_on(view, now)
        for view in views:
            if view.url not in self._refused:
                await self._place(view, views, now)
        self._judge_witnesses(views, now)
        silence = now - self.record.state.changed_at
        if self.aim.max_silence_seconds and self.record.state.size and silence > self.aim.max_silence_seconds:
            self.conditions[Kind.SILENT, ""] = f"the checkpoint has not changed for {silence} seconds"
        if not any(kind is Kind.UNREACHABLE for kind, _ in self.conditions):
            self.completed_at = now
        self.announcer.alarms(self.conditions, now, lambda kind: PATIENCE_SECONDS.get(kind, 0))
        self.record.save()

    def settle(self) -> None:
        """Nothing more will be looked at: whatever is amiss now counts."""
        self.announcer.alarms(self.conditions, int(self._clock()), lambda kind: 0)
        self.record.save()

    def _known(self) -> Known:
        """The key given, and those that the log's root made count as far as it was read, once this is the log meant."""
        keys = self._follower.keys if self._follower is not None and self._anchored else None
        if keys is None:
            return Known((self.aim.vkey,), (self.aim.vkey,))
        return Known((self.aim.vkey, *keys.log_keys), (self.aim.vkey, *keys.ever_log_keys))

    @property
    def _anchored(self) -> bool:
        """Whether this is the log that was meant: its key signed it, or its id is the one given. Only then do keys
        count that its root introduced."""
        follower = self._follower
        pinned = self.aim.log_id is not None and follower is not None and follower.log_id == self.aim.log_id
        return pinned or self.record.state.anchored

    async def _look(self, client: LogClient, now: int) -> View | None:
        seen = await look(client, self.aim.origin, self._known(), self.aim.policy)
        if isinstance(seen, Away):
            self.conditions[seen.kind, client.url] = seen.detail
            return None
        if isinstance(seen, Finding):
            self._found(client, seen)
            return None
        self.record.state.places.setdefault(client.url, Place()).answered_at = now
        return seen

    def _is_signed(self, view: View) -> bool:
        """By a key that is known to count, as of the entries that were read."""
        return view.is_signed(self._known().now)

    def _compare(self, views: Sequence[View]) -> None:
        """Views of one size have one root, whoever shows them."""
        first: dict[int, View] = {}
        for view in views:
            if not self._is_signed(view):
                continue
            other = first.setdefault(view.size, view)
            if other.checkpoint.root != view.checkpoint.root:
                self._found(view.client, fork(other.checkpoint, view.checkpoint))

    async def _go_on(self, view: View, now: int) -> None:
        """Move the head on to what this URL shows, if it is further; read entries that could not be read before."""
        size, head = view.size, self.record.head
        behind = self._follower is not None and self._follower.size < size and self._may_try_entries(view, now)
        if size < head.size or (size == head.size and not (behind and size)):
            if size == head.size:
                self._compare_with_head(view, head, now)
            return
        if size == head.size and not self._compare_with_head(view, head, now):
            return
        if not self._is_signed(view) and self._follower is None:
            self._found(view.client, unsigned(view.checkpoint, "no key that you named"))
            return
        for again in (True, False):
            try:
                await self._advance(view, now, fresh_tiles=not again)
                return
            except Found as found:
                self._drop()
                if not again or found.findings[0].kind not in (Kind.TILES, Kind.ENTRIES):
                    self._refuse(view, found.findings)
                    return
                await asyncio.sleep(MONITOR_LOOK_AGAIN_SECONDS)
            except LogUnreachable as error:
                self._drop()
                self.conditions[Kind.UNREACHABLE, view.url] = str(error)
                return
            except LogGuarded as error:
                self._drop()
                self.conditions[Kind.GUARDED, view.url] = str(error)
                return
            except BaseException:
                self._drop()
                raise

    def _refuse(self, view: View, findings: Sequence[Finding]) -> None:
        """What is wrong with a checkpoint that nobody signed convicts nobody: that it is unsigned is all."""
        if not self._is_signed(view) and findings[0].kind is not Kind.UNSIGNED:
            why = f"no key that counts, nor by one that the log introduced ({findings[0].detail})"
            findings = (unsigned(view.checkpoint, why),)
        for finding in findings:
            self._found(view.client, finding)

    def _may_try_entries(self, view: View, now: int) -> bool:
        tried = self._guarded.get(view.url)
        return tried is None or now - tried >= MONITOR_GUARDED_PAUSE_SECONDS

    def _note_guarded(self, url: str) -> None:
        if self.record.state.followed:
            self.conditions[Kind.GUARDED, url] = "entries could be read before, and are guarded now"

    def _drop(self) -> None:
        if self._follower is not None:
            self._follower.drop()

    def _compare_with_head(self, view: View, head: Head, now: int) -> bool:
        """A view of the head's own size."""
        if view.checkpoint.root != head.root:
            known = self.record.checkpoint
            if not self._is_signed(view):
                self._found(view.client, unsigned(view.checkpoint, "no key that counts"))
            elif known is None:
                what = Finding(Kind.TILES, "this is not the root of an empty log", 2, None, (view.checkpoint,))
                self._found(view.client, what)
            else:
                self._found(view.client, fork(known, view.checkpoint))
            return False
        keys = self._follower.keys if self._follower is not None and self._follower.size == head.size else None
        if not self._is_signed(view) or (keys is not None and not view.is_signed(keys.log_keys)):
            self._found(view.client, unsigned(view.checkpoint, "no log key that is active at this size"))
            return False
        self.record.state.anchored = self.record.state.anchored or self.aim.vkey in view.signers
        self._take_note(view, now)
        return True

    def _take_note(self, view: View, now: int) -> None:
        """The same head with other lines: cosignatures come later than signatures."""
        state = self.record.state
        if view.size and state.checkpoint != view.note and len(view.cosigned) >= len(self._cosigned_so_far()):
            state.checkpoint, state.changed_at = view.note, now

    def _cosigned_so_far(self) -> dict[VerifierKey, int]:
        known = self.record.checkpoint
        found = {} if known is None else cosignatures(known, self.aim.policy)
        return {} if isinstance(found, Finding) else found

    async def _advance(self, view: View, now: int, *, fresh_tiles: bool) -> None:
        """`Found` if anything is wrong on the way; then nothing is kept."""
        record, aim, follower = self.record, self.aim, self._follower
        checkpoint = view.checkpoint
        earliest = min(view.cosigned.values(), default=None)
        way = Advance(
            view.client,
            Start(record.frontier(), record.checkpoint, follower),
            checkpoint,
            log_id=aim.log_id,
            latest_ms=None if earliest is None else earliest * 1000 + COSIGNED_SLACK_MS,
            trusted=self._is_signed(view),
            fresh=fresh_tiles,
        )
        frontier = await way.run()
        if way.guarded:
            self._guarded[view.url] = now
            self._note_guarded(view.url)
        pinned = aim.vkey in view.signers
        self._check_keys(view, pinned, followed=way.followed)
        if way.followed and follower is not None:
            self._guarded.pop(view.url, None)
            self.conditions.pop((Kind.GUARDED, view.url), None)
            await in_thread(follower.keep, view.note)
        else:
            self._drop()
        record.state.anchored = record.state.anchored or pinned
        record.state.followed = record.state.followed or way.followed
        record.state.log_id = way.log_id or record.state.log_id
        self._move(view, frontier, now, followed=way.followed)

    def _check_keys(self, view: View, pinned: bool, *, followed: bool) -> None:
        """Rule 4: which keys count is what the log's root said up to this size, once this is the log that was meant."""
        follower = self._follower
        if not (followed and follower is not None and follower.keys is not None):
            if not self._is_signed(view):
                why = "no key that you named, and the entries that might introduce another cannot be read"
                raise Found(unsigned(view.checkpoint, why))
            return
        ever = signers(view.checkpoint, follower.keys.ever_log_keys)
        if isinstance(ever, Finding):
            raise Found(ever)
        if not ever & set(follower.keys.log_keys):
            raise Found(unsigned(view.checkpoint, "no log key that is active at this size"))
        if not (pinned or self._anchored):
            why = "keys that the log introduced by itself: name one of them, or the log id"
            raise Found(unsigned(view.checkpoint, why))

    def _move(self, view: View, frontier: Frontier, now: int, *, followed: bool) -> None:
        before = self.record.state.size
        if frontier.size > before:
            self.record.advance(view.note, frontier, now)
            self.record.state.changed_at = now
            extent = "entries and tiles verified" if followed else "tiles verified, entries not read"
            log.info("%s: size %d, from %d, %s", plain(view.url), frontier.size, before, extent)

    async def _place(self, view: View, views: Sequence[View], now: int) -> None:
        """Where this URL stands beside the head, and beside what it showed before."""
        size, head = view.size, self.record.head
        place = self.record.state.places.setdefault(view.url, Place())
        if size < head.size and not await self._is_behind(view, views, head):
            return
        if size < place.size:
            detail = f"it showed {place.size} entries before, and shows {size} now"
            self.conditions[Kind.REWOUND, view.url] = detail
            return
        place.size = size
        passed = next((seen.at for seen in self.record.state.heads if seen.size > size), now)
        if size < head.size and now - passed > 0:
            detail = f"it shows {size} entries of {head.size}, and has been behind for {now - passed} seconds"
            if now - passed >= MONITOR_LAG_PATIENCE_SECONDS:
                self.conditions[Kind.LAGGING, view.url] = detail

    async def _is_behind(self, view: View, views: Sequence[View], head: Head) -> bool:
        """Whether a smaller log is the beginning of the one that is known. A fork is found here; where nobody can
        show the tiles that would tell, it is not known, and asked again."""
        if not view.is_signed(self._known().ever):
            self._found(view.client, unsigned(view.checkpoint, "no key that counts"))
            return False
        known = self.record.root_at(view.size)
        if (view.url, view.head) in self._behind or known == view.checkpoint.root:
            return True
        growth, tiles = (Growth.TILES if known is None else Growth.FORK), dict[tuple[int, int], bytes]()
        for client in (other.client for other in views if other.size >= head.size):
            with suppress(LogUnreachable, LogGuarded):
                told, shown = await judge_between(client, view.head, head)
                if told is not Growth.TILES:
                    growth, tiles = told, shown
                    break
        if growth is Growth.FORK:
            checkpoint = self.record.checkpoint
            assert checkpoint is not None
            self._found(view.client, fork(view.checkpoint, checkpoint, tiles))
            return False
        if growth is Growth.SOUND:
            self._behind = {(view.url, view.head), *list(self._behind)[:1_000]}
        return True

    def _judge_witnesses(self, views: Sequence[View], now: int) -> None:
        """The quorum over the largest view, and how long ago each witness gave a sign of life."""
        aim, seen = self.aim, self.record.state.witnesses
        for view in views:
            for key, seconds in view.cosigned.items():
                seen[str(key)] = max(seconds, seen.get(str(key), 0))
        if not aim.policy.witnesses or not self.record.state.size:
            return
        if views and not aim.policy.satisfied(views[-1].cosigned.keys()):
            have = f"{len(views[-1].cosigned)} of {len(aim.policy.witnesses)} witnesses"
            detail = f"the checkpoint of size {views[-1].size} is cosigned by {have}: no quorum"
            self.conditions[Kind.QUORUM, ""] = detail
        if not fresh(aim.policy, seen, now, aim.max_age_seconds, MONITOR_CLOCK_SKEW_SECONDS):
            detail = f"no quorum of witnesses has cosigned within {aim.max_age_seconds} seconds"
            self.conditions[Kind.STALE, ""] = detail

    def _found(self, client: LogClient, finding: Finding) -> None:
        """A fault at this URL, which counts for nothing more in this round."""
        self._refused.add(client.url)
        self.announcer.fault(finding, client.url, int(self._clock()))
