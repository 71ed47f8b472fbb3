"""The attacks on a log that an audit finds, as data: who can do it, how it is done, and the rules that see it.

Each changes a real ledger's database as its superuser, and uses of the keys only those that `who` names. The table in
proto/SPEC.md is made of the same rows, and a test keeps it so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ledger.core import keys
from ledger.core.entry import ZEROS, Kind, commitment, core_bytes, key_hash
from ledger.core.note import Signature
from tests.adversary.victim import (
    ERASED,
    ERASURE,
    EVENT,
    KEY_INTRODUCED,
    LOG_KEY_RETIRED,
    OLD_SIZE,
    OTHER_EVENT,
    POLICY,
    SIZE,
    SMALL_ORDER,
    Victim,
)
from tests.logbuilder import LogBuilder, key
from tests.openings import reseal

SUPERUSER = "superuser"
LOG = "superuser, log key"
INGEST = "superuser, log and ingest keys"
ROOT = "superuser, log and root keys"
OPERATOR = "the operator, all keys"
THIEF = "thief of the log key"

Doing = Callable[[Victim], Awaitable[None]]


@dataclass(frozen=True)
class Attack:
    """`rules` are exactly those that the report names; `by` says what the auditor brings beside vkey and log id."""

    name: str
    what: str
    who: str
    rules: frozenset[int]
    by: str
    do: Doing

    @property
    def found_by(self) -> str:
        """As SPEC.md says it."""
        numbers = [str(rule) for rule in sorted(self.rules)]
        rules = f"rule {numbers[0]}" if len(numbers) == 1 else f"rules {', '.join(numbers[:-1])} and {numbers[-1]}"
        return f"{rules}, by {self.by}" if self.by else rules


ATTACKS: dict[str, Attack] = {}


def attack(what: str, who: str, *rules: int, by: str = "") -> Callable[[Doing], Doing]:
    def register(do: Doing) -> Doing:
        name = do.__name__
        assert name not in ATTACKS
        ATTACKS[name] = Attack(name, what, who, frozenset(rules), by, do)
        return do

    return register


A_CHECKPOINT = "an older checkpoint"
A_COSIGNATURE = "a witness's cosignature"


async def settled(v: Victim) -> None:
    """The end of an attack by one who holds the log key."""
    v.chain()
    await v.store()
    await v.sign()


def denied(payload: bytes) -> bytes:
    """The payload of a grant, as a denial would have it."""
    assert b'"granted"' in payload
    return payload.replace(b'"granted"', b'"denied"').replace(b"consent.given", b"consent.refused")


def forge_decision(v: Victim, seq: int) -> None:
    """Another payload under a commitment that fits it."""
    salt, payload = v.openings[seq]
    forged = denied(payload)
    v.openings[seq] = salt, forged
    v.change(seq, commit=commitment(salt, forged))


def signed_anew(v: Victim, seq: int) -> None:
    one = v.entry(seq)
    v.change(seq, signature=v.ingest.sign(core_bytes(v.log_id, one.kind, one.commit, one.public)))


# --- the past edited --------------------------------------------------------------------------------------------------


@attack("an entry and its payload edited in place", SUPERUSER, 2, 3, 4, 7)
async def an_entry_edited(v: Victim) -> None:
    forge_decision(v, EVENT + 1)
    await v.store()


@attack("an entry and its payload edited, the chain made anew, a fresh checkpoint", LOG, 7)
async def an_entry_edited_and_chained_anew(v: Victim) -> None:
    forge_decision(v, EVENT + 1)
    await settled(v)


@attack("an entry and its payload edited, every signature made anew", INGEST, 4, by=A_CHECKPOINT)
async def an_entry_edited_and_signed_anew(v: Victim) -> None:
    v.auditor.old = v.checkpoint(OLD_SIZE)
    forge_decision(v, EVENT + 1)
    signed_anew(v, EVENT + 1)
    await settled(v)


@attack("a payload edited, its entry left", SUPERUSER, 10)
async def a_payload_edited(v: Victim) -> None:
    _, payload = v.openings[EVENT + 1]
    await reseal(v.connection, v.honest.settings.masters, EVENT + 1, denied(payload), v.site_id)


@attack("a sealed payload altered without the key that sealed it", SUPERUSER, 12)
async def a_sealed_payload_altered(v: Victim) -> None:
    await v.connection.execute("update ledger.opening set sealed = sealed || 'x' where seq = $1", EVENT + 1)


@attack("a payload deleted in silence", SUPERUSER, 12)
async def a_payload_deleted(v: Victim) -> None:
    await v.connection.execute("delete from ledger.opening where seq = $1", EVENT)


@attack("the payloads of two entries swapped", SUPERUSER, 10)
async def payloads_swapped(v: Victim) -> None:
    v.openings[EVENT], v.openings[OTHER_EVENT] = v.openings[OTHER_EVENT], v.openings[EVENT]
    await v.store()


@attack("an entry deleted inside", SUPERUSER, 2)
async def an_entry_deleted(v: Victim) -> None:
    for table in ("entry", "opening"):
        await v.connection.execute(f"delete from ledger.{table} where seq = $1", SIZE - 10)
        await v.connection.execute(f"update ledger.{table} set seq = -seq where seq > $1", SIZE - 10)
        await v.connection.execute(f"update ledger.{table} set seq = -seq - 1 where seq < 0")


@attack("an entry deleted inside, under a fresh checkpoint", LOG, 3)
async def an_entry_deleted_and_signed_over(v: Victim) -> None:
    v.remove(EVENT)
    await v.store()
    await v.sign()


@attack("an entry deleted inside, the rest numbered and chained anew", LOG, 4, by=A_CHECKPOINT)
async def an_entry_dropped_without_a_trace(v: Victim) -> None:
    v.auditor.old = v.checkpoint(OLD_SIZE)
    v.remove(EVENT)
    await settled(v)


@attack("an entry inserted in the past", LOG, 7)
async def an_entry_inserted(v: Victim) -> None:
    v.append_opened(Kind.EVENT, v.payload(), signer=v.thief)
    v.put_in(EVENT)
    v.change(EVENT, ms=v.entry(EVENT - 1).ms)
    await settled(v)


@attack("an entry inserted in the past by the ingest key", INGEST, 4, by=A_CHECKPOINT)
async def an_entry_inserted_with_the_ingest_key(v: Victim) -> None:
    v.auditor.old = v.checkpoint(OLD_SIZE)
    v.event()
    v.put_in(EVENT)
    v.change(EVENT, ms=v.entry(EVENT - 1).ms)
    await settled(v)


@attack("two entries in the other order", SUPERUSER, 2, 3, 4, 6)
async def entries_reordered(v: Victim) -> None:
    first, last = POLICY + 1, SIZE - 1
    for table in ("entry", "opening"):
        await v.connection.execute(f"update ledger.{table} set seq = -seq where seq in ($1, $2)", first, last)
        await v.connection.execute(f"update ledger.{table} set seq = seq + $1 where seq < 0", first + last)


@attack("two entries in the other order, times and chain made to fit", LOG, 4, by=A_CHECKPOINT)
async def entries_reordered_without_a_trace(v: Victim) -> None:
    v.auditor.old = v.checkpoint(OLD_SIZE)
    first, last = v.entry(EVENT), v.entry(OTHER_EVENT)
    v.change(EVENT, **(last._asdict() | {"ms": first.ms}))
    v.change(OTHER_EVENT, **(first._asdict() | {"ms": last.ms}))
    v.openings[EVENT], v.openings[OTHER_EVENT] = v.openings[OTHER_EVENT], v.openings[EVENT]
    await settled(v)


@attack("the tail cut off", SUPERUSER, 2)
async def the_tail_cut(v: Victim) -> None:
    for table in ("entry", "opening"):
        await v.connection.execute(f"delete from ledger.{table} where seq >= $1", SIZE - 1)


@attack("the tail cut off, under a fresh checkpoint", LOG, 4, by=A_CHECKPOINT)
async def the_tail_cut_and_signed_over(v: Victim) -> None:
    v.auditor.old = v.checkpoint()
    for _ in range(20):
        v.remove(len(v.entries) - 1)
    await settled(v)


@attack("the tail cut off, and a kept checkpoint forgotten in the bundle", LOG, 4)
async def the_tail_cut_with_a_kept_checkpoint_left(v: Victim) -> None:
    beyond = v.checkpoint()
    v.remove(len(v.entries) - 1)
    await settled(v)
    await v.connection.execute("update ledger.checkpoint set size = -1")  # read in order of size: it comes first
    await v.keep(v.checkpoint(), SIZE)
    await v.connection.execute("update ledger.checkpoint set note = $1 where size = -1", beyond.encode())


@attack("the whole log behind genesis written anew", OPERATOR, 4, by=A_CHECKPOINT)
async def the_whole_log_rewritten(v: Victim) -> None:
    v.auditor.old = v.checkpoint(OLD_SIZE)
    for seq in range(LOG_KEY_RETIRED + 1, SIZE):
        salt, payload = v.openings[seq]
        v.openings[seq] = salt, payload.replace(b'"language"', b'"language"').replace(b"visitor-", b"nobody--")
        v.change(seq, commit=commitment(*v.openings[seq]))
        signed_anew(v, seq)
    await settled(v)


@attack("a fork shown to one reader", OPERATOR, 4, by="another reader's checkpoint")
async def a_fork(v: Victim) -> None:
    v.auditor.old = v.checkpoint()  # what the other reader was shown
    for seq in range(SIZE - 10, SIZE):
        v.openings[seq] = v.openings[seq][0], v.openings[seq][1].replace(b"visitor-", b"nobody--")
        v.change(seq, commit=commitment(*v.openings[seq]))
        signed_anew(v, seq)
    await settled(v)


@attack("two histories by way of `prev`: the chain says another than the tree", INGEST, 3)
async def a_chain_beside_the_tree(v: Victim) -> None:
    """The class of immudb's linear-fake: whoever follows the chain meets an entry that the tree does not hold."""
    shown = LogBuilder(v.origin, genesis=False)
    shown.ingest, shown.entries, shown.leaves = v.ingest, [*v.entries[:EVENT]], [*v.leaves[:EVENT]]
    shown.now_ms = v.entry(EVENT).ms
    shown.event()  # properly signed, chained, and in no tree
    v.change(EVENT + 1, prev=shown.leaves[EVENT])
    for seq in range(EVENT + 2, SIZE):
        v.change(seq, prev=v.leaves[seq - 1])
    await v.store()
    await v.sign()


@attack("times of a stretch set back, chain made to fit", LOG, 4, by=A_CHECKPOINT)
async def a_stretch_back_dated(v: Victim) -> None:
    v.auditor.old = v.checkpoint(OLD_SIZE)
    for seq in range(LOG_KEY_RETIRED + 2, SIZE):
        v.change(seq, ms=v.entry(LOG_KEY_RETIRED + 1).ms)
    await settled(v)


@attack("the time of an entry set back", LOG, 6)
async def time_set_back(v: Victim) -> None:
    v.change(EVENT, ms=v.entry(EVENT - 1).ms - 3_600_000)
    await settled(v)


@attack("time set far ahead", LOG, 6, by=A_COSIGNATURE)
async def time_set_ahead(v: Victim) -> None:
    v.auditor.witnesses = (v.witness_vkey,)
    v.change(SIZE - 1, ms=v.entry(SIZE - 1).ms + 365 * 86_400_000)
    v.chain()
    await v.store()
    await v.sign(v.cosigned(v.checkpoint()))


# --- things said again ------------------------------------------------------------------------------------------------


@attack("an event replayed", LOG, 9)
async def an_event_replayed(v: Victim) -> None:
    v.again(EVENT)
    await settled(v)


@attack("an erased event brought back as a new one, from a backup", LOG, 9)
async def an_erased_event_replayed(v: Victim) -> None:
    v.again(ERASED)
    v.openings[len(v.entries) - 1] = v.honest.erased
    await settled(v)


@attack("a policy replayed", LOG, 9)
async def a_policy_replayed(v: Victim) -> None:
    v.again(POLICY)
    await settled(v)


@attack("a policy's version given another text", INGEST, 9)
async def a_policy_version_used_again(v: Victim) -> None:
    v.policy("1.0", b'{"policy":"a text that nobody agreed to"}')
    await settled(v)


@attack("a policy's document altered", SUPERUSER, 9)
async def a_document_altered(v: Victim) -> None:
    await v.connection.execute(
        "alter table ledger.policy drop constraint policy_document_fkey;"
        "alter table ledger.document drop constraint document_check"
    )
    digest = v.entry(POLICY).public[:32]
    await v.connection.execute("update ledger.document set body = body || ' ' where hash = $1", digest)


@attack("the introduction of a key that was retired since replayed", LOG, 8, 9)
async def a_key_introduction_replayed(v: Victim) -> None:
    v.again(KEY_INTRODUCED)
    await settled(v)


@attack("an event recorded a second time under a fresh salt", INGEST, 9)
async def an_event_duplicated(v: Victim) -> None:
    v.append_opened(Kind.EVENT, v.openings[EVENT][1])
    await settled(v)


@attack("an entry of another site's log", LOG, 7, 10)
async def an_entry_of_another_site(v: Victim) -> None:
    other = LogBuilder("ledger.test/other.example.com")
    other.policy()
    take(v, other, other.event())
    await settled(v)


@attack("an entry of an earlier log of the same origin, under the same keys", LOG, 7)
async def an_entry_of_an_earlier_log(v: Victim) -> None:
    earlier = LogBuilder(v.origin, genesis=False)
    earlier.root, earlier.ingest, earlier.log = v.root, v.ingest, v.log
    earlier.append(Kind.GENESIS, earlier.genesis_public())
    earlier.policy()
    take(v, earlier, earlier.event())
    await settled(v)


def take(v: Victim, other: LogBuilder, seq: int) -> None:
    """Append an entry of another log, opening and all."""
    v.append_bytes(other.entries[seq])
    at = len(v.entries) - 1
    v.now_ms += 1000
    v.change(at, ms=v.now_ms)
    v.openings[at] = other.openings[seq]


# --- erasures ---------------------------------------------------------------------------------------------------------


def erase_but_keep(v: Victim, seq: int) -> None:
    """An erasure entry naming a seq, whatever that is; no opening goes."""
    kept = dict(v.openings)
    made = v.erase(seq)
    v.openings = kept | {made: v.openings[made]}


@attack("an erasure that names the future", INGEST, 11)
async def an_erasure_of_the_future(v: Victim) -> None:
    erase_but_keep(v, SIZE + 1)
    v.event()
    await settled(v)


@attack("an erasure that names a policy", INGEST, 11)
async def an_erasure_of_a_policy(v: Victim) -> None:
    erase_but_keep(v, POLICY)
    await settled(v)


@attack("an erasure that names itself", INGEST, 11)
async def an_erasure_of_itself(v: Victim) -> None:
    erase_but_keep(v, SIZE)
    await settled(v)


@attack("an erasure that names an event whose payload is still there", INGEST, 12)
async def an_erasure_of_a_living_payload(v: Victim) -> None:
    erase_but_keep(v, EVENT)
    await settled(v)


@attack("the payload of an erased event kept, or brought back from a backup", SUPERUSER, 12)
async def an_erased_payload_brought_back(v: Victim) -> None:
    await v.connection.execute(
        "insert into ledger.opening (site_id, seq, sealed) values ($1, $2, $3)",
        *(v.site_id, ERASED, v.sealed(ERASED, *v.honest.erased)),
    )


@attack("the record of why something was erased deleted", SUPERUSER, 12)
async def an_erasure_record_deleted(v: Victim) -> None:
    await v.connection.execute("delete from ledger.opening where seq = $1", ERASURE)


# --- keys -------------------------------------------------------------------------------------------------------------


@attack("an event signed by a retired key", "thief of a retired ingest key, log key", 7)
async def a_retired_key_used(v: Victim) -> None:
    v.append_opened(Kind.EVENT, v.payload(), signer=v.honest.retired_ingest)
    await settled(v)


@attack("a thief's key introduced, signed by the ingest key, and used", INGEST, 7)
async def a_thiefs_key_introduced_with_the_ingest_key(v: Victim) -> None:
    v.introduce_ingest(v.thief, signer=v.ingest)
    v.append_opened(Kind.EVENT, v.payload(), signer=v.thief)
    await settled(v)


@attack("a weak ingest key, for which anybody can sign", ROOT, 7, 8)
async def a_weak_key_introduced(v: Victim) -> None:
    base = bytes.fromhex("5866666666666666666666666666666666666666666666666666666666666666")
    anybody = base + (1).to_bytes(32, "little")  # R = B, S = 1: for A neutral that is a signature of anything
    v.key_entry(bytes((keys.INTRODUCE_INGEST,)) + SMALL_ORDER + anybody)
    payload, salt = v.payload(), v.salt()
    seq = v.append_opened(Kind.EVENT, payload, salt=salt, signature=anybody)
    v.change(seq, signer=key_hash(SMALL_ORDER))
    await settled(v)


@attack("one key in two roles", ROOT, 8)
async def one_key_in_two_roles(v: Victim) -> None:
    v.introduce_ingest(v.log)
    await settled(v)


@attack("a key introduced of which nobody proves possession", ROOT, 8)
async def a_key_that_nobody_holds(v: Victim) -> None:
    v.key_entry(bytes((keys.INTRODUCE_INGEST,)) + key("somebody else's").public + bytes(64))
    await settled(v)


@attack("a checkpoint signed by a stranger", SUPERUSER, 4)
async def a_checkpoint_of_a_stranger(v: Victim) -> None:
    v.event()
    v.chain()
    await v.store()
    await v.sign(v.checkpoint(signers=(v.thief,)))


@attack("a checkpoint signed by a retired log key alone", "superuser, thief of a retired log key", 4)
async def a_checkpoint_by_a_retired_key(v: Victim) -> None:
    v.event()
    v.chain()
    await v.store()
    v.auditor.log_vkey = str(v.vkey(v.honest.retired_log))  # the auditor knows no better
    await v.sign(v.checkpoint(signers=(v.honest.retired_log,)))


@attack("a whole new log under the same origin, with a root of the thief's own", THIEF, 4, by="the log id")
async def a_new_log_under_the_same_origin(v: Victim) -> None:
    put_new_log(v)
    await settled(v)


@attack("such a log shown to one who has no log id, but has been here before", THIEF, 4, by=A_CHECKPOINT)
async def a_new_log_shown_to_one_who_was_here(v: Victim) -> None:
    v.auditor.log_id, v.auditor.old = None, v.checkpoint(OLD_SIZE)
    put_new_log(v)
    await settled(v)


def put_new_log(v: Victim) -> None:
    """A thief's log, sound in itself, in the place of the victim's."""
    made = LogBuilder(v.origin, genesis=False)
    made.root, made.ingest, made.log = v.thief, key("the thief's ingest key"), v.log
    made.append(Kind.GENESIS, made.genesis_public())
    made.policy()
    made.events(SIZE - 2)
    v.entries, v.leaves, v.openings, v.documents = made.entries, made.leaves, made.openings, made.documents


# --- what the bytes can hide ------------------------------------------------------------------------------------------


@attack("personal data hidden in an event's public part", INGEST, 5)
async def personal_data_in_public(v: Victim) -> None:
    v.append_opened(Kind.EVENT, v.payload(), b"Alice, 14 Lindenstrasse")
    await settled(v)


@attack("personal data in place of a policy's commitment", INGEST, 5)
async def personal_data_in_a_commitment(v: Victim) -> None:
    v.policy("2.0", commit=b"Alice, 14 Lindenstrasse".ljust(32))
    await settled(v)


@attack("a second genesis entry, with keys of the thief's", ROOT, 5)
async def a_second_genesis(v: Victim) -> None:
    v.append(Kind.GENESIS, keys.encode_genesis(v.log_vkey, v.thief.public, v.root.public))
    await settled(v)


@attack("a payload with a doubled member, that two readers take for two decisions", INGEST, 10)
async def a_doubled_member(v: Victim) -> None:
    doubled = v.payload().replace(b'{"analytics":', b'{"analytics":"denied","analytics":', 1)
    v.append_opened(Kind.EVENT, doubled)
    await settled(v)


@attack("a payload that says another site", INGEST, 10)
async def a_payload_of_another_site(v: Victim) -> None:
    v.event(site="other.example.com")
    await settled(v)


@attack("a payload citing a policy that was not there", INGEST, 9)
async def a_policy_that_never_was(v: Victim) -> None:
    v.event(policyVersion="7.0")
    await settled(v)


@attack("bytes hidden behind an entry", LOG, 1)
async def bytes_behind_an_entry(v: Victim) -> None:
    seq = v.append_bytes(v.entries[EVENT] + b"Alice")
    assert seq == SIZE
    await v.store()
    await v.sign()


@attack("a checkpoint with a line more, that some readers take for its size or root", LOG, 1)
async def a_checkpoint_with_a_line_more(v: Victim) -> None:
    await v.sign()
    kept = v.checkpoint(OLD_SIZE)
    body = kept.body + b"1000\n"
    line = Signature(v.origin, v.log_vkey.key_id, v.log.sign(body))
    await v.keep(body + b"\n" + line.line().encode(), OLD_SIZE)


@attack("a hash tile that does not match", SUPERUSER, 2)
async def a_tile_that_does_not_match(v: Victim) -> None:
    await v.connection.execute("update ledger.tile set hashes = overlay(hashes placing $1 from 33)", ZEROS)


@attack("a cosignature forged", LOG, 6, by="the witness's vkey")
async def a_cosignature_forged(v: Victim) -> None:
    v.auditor.witnesses = (v.witness_vkey,)
    real = v.cosigned(v.checkpoint()).signatures[-1]
    elsewhere = real._replace(value=(0).to_bytes(8, "big") + real.value[8:])
    made = v.checkpoint()
    await v.sign(made._replace(signatures=(*made.signatures, elsewhere)))
