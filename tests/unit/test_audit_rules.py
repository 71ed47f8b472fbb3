"""Rules 1 to 7 and 13, 14: each is broken in several ways, and exactly that rule's number and entry are seen."""

from __future__ import annotations

from hashlib import sha512
from pathlib import Path

import pytest

from ledger.core import entry, keys, note
from ledger.core.entry import Kind
from ledger.core.merkle import leaf_hash
from ledger.core.tile import encode_bundle
from tests.logbuilder import ORIGIN, START_MS, LogBuilder, key, witness
from tests.unit.audit_cases import Breaks, Case, Expected, faults, long_log, short_log

ORDER = 2**252 + 27742317777372353535851937790883648493
breaks = Breaks()


def edited(data: bytes, at: int, byte: int) -> bytes:
    return data[:at] + bytes((byte,)) + data[at + 1 :]


# Rule 1: parsing


@breaks
def rule_1_a_checkpoint_without_signature_whose_log_is_audited_all_the_same(case: Case) -> Expected:
    case.checkpoint = case.log.checkpoint(signers=())
    case.log.openings.pop(3)
    return [(1, None), (4, None), (4, None), (12, 3)]


@breaks
def rule_1_a_checkpoint_with_an_extension_line(case: Case) -> Expected:
    case.checkpoint = case.log.checkpoint().encode().replace(b"\n\n", b"\nextension\n\n")
    return [(1, None)]


@breaks
def rule_1_a_checkpoint_with_a_padded_size(case: Case) -> Expected:
    case.checkpoint = case.log.checkpoint().encode().replace(b"\n7\n", b"\n07\n")
    return [(1, None)]


@breaks
def rule_1_a_checkpoint_with_a_root_in_loose_base64(case: Case) -> Expected:
    origin, size, root, rest = case.log.checkpoint().encode().split(b"\n", 3)
    loose = root[:-2] + bytes((root[-2] + 1,)) + b"="  # a spare bit of the last character is set
    case.checkpoint = b"\n".join((origin, size, loose, rest))
    return [(1, None)]


@breaks
def rule_1_a_checkpoint_of_another_origin_than_the_key(case: Case) -> Expected:
    case.vkey = LogBuilder("ledger.example/we-nera.com").log_vkey
    return [(1, None), (4, None)]


@breaks
def rule_1_a_kept_checkpoint_that_is_none(case: Case) -> Expected:
    case.files["checkpoints/1"] = b"nothing\n"
    return [(1, None)]


@breaks
def rule_1_a_kept_checkpoint_that_is_a_folder(case: Case) -> Expected:
    case.files["checkpoints/1/2"] = b"nothing\n"
    return [(1, None)]


@breaks
def rule_1_an_entry_of_another_version(case: Case) -> Expected:
    seq = case.log.append_bytes(edited(case.log.entries[-1], 0, 2))
    case.log.event()
    return [(1, seq)]


@breaks
def rule_1_an_entry_whose_time_is_not_below_2_to_the_53(case: Case) -> Expected:
    seq = case.log.append(Kind.EVENT, ms=2**53)
    case.log.event()
    return [(1, seq)]


@breaks
def rule_1_an_entry_with_bytes_behind_its_public_part(case: Case) -> Expected:
    seq = case.log.append_bytes(case.log.entries[-1] + b"!")
    case.log.event()
    return [(1, seq)]


@breaks
def rule_1_an_entry_cut_short(case: Case) -> Expected:
    seq = case.log.append_bytes(case.log.entries[-1][:100])
    case.log.event()
    return [(1, seq)]


@breaks
def rule_1_an_entry_bundle_with_bytes_behind_its_entries(case: Case) -> Expected:
    case.log = long_log()
    case.files["tile/entries/001"] = encode_bundle(case.log.entries[256:512]) + b"\0"
    return [(1, 256)]


@breaks
def rule_1_an_entry_bundle_cut_short(case: Case) -> Expected:
    case.files["tile/entries/000.p/7"] = encode_bundle(case.log.entries)[:-1]
    return [(1, 0)]


@breaks
def rule_1_a_genesis_key_in_loose_base64(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    lines = case.log.genesis_public().split(b"\n")
    lines[1] = lines[1][:-2] + bytes((lines[1][-2] + 1,)) + b"="
    case.log.append(Kind.GENESIS, b"\n".join(lines))
    return [(1, 0)]


@breaks
def rule_1_a_new_log_key_with_a_wrong_key_id(case: Case) -> Expected:
    name, _, data = str(case.log.vkey(key("log 2"))).split("+", 2)
    public = bytes((keys.INTRODUCE_LOG,)) + f"{name}+00000000+{data}".encode()
    return [(1, case.log.key_entry(public))]


@breaks
def rule_1_a_new_log_key_of_the_type_for_cosignatures(case: Case) -> Expected:
    wrong = note.VerifierKey(ORIGIN, note.TYPE_COSIGNATURE, key("log 2").public)
    return [(1, case.log.key_entry(bytes((keys.INTRODUCE_LOG,)) + str(wrong).encode()))]


def with_line(case: Case, seq: int, old: bytes, new: bytes) -> None:
    """payloads.ndjson with a part of one line replaced."""
    case.lines = case.log.lines()
    index = sorted(case.log.openings).index(seq)
    assert old in case.lines[index]
    case.lines[index] = case.lines[index].replace(old, new, 1)


@breaks
def rule_1_an_opening_in_loose_base64(case: Case) -> Expected:
    salt = case.log.lines()[1].split(b'"')[5]
    with_line(case, 3, salt, salt[:-2] + bytes((salt[-2] + 1,)) + b"=")
    return [(1, 3)]


@breaks
def rule_1_an_opening_with_a_doubled_member(case: Case) -> Expected:
    with_line(case, 3, b'{"seq": 3,', b'{"seq":3,"seq":3,')
    return [(1, 3)]


@breaks
def rule_1_an_opening_with_an_unknown_member(case: Case) -> Expected:
    with_line(case, 3, b'{"seq": 3,', b'{"seq":3,"note":"",')
    return [(1, 3)]


@breaks
def rule_1_an_opening_that_is_not_json(case: Case) -> Expected:
    with_line(case, 3, b"{", b"[")
    return [(1, None), (12, 3)]


@breaks
def rule_1_an_empty_line_among_openings(case: Case) -> Expected:
    lines = case.log.lines()
    case.lines = [*lines[:2], b"", *lines[2:]]
    return [(1, None)]


@breaks
def rule_1_empty_lines_behind_the_openings(case: Case) -> Expected:
    case.lines = [*case.log.lines(), *[b""] * 10]
    return [(1, None)] * 10


@breaks
def rule_1_an_opening_without_end(case: Case) -> Expected:
    case.lines = [*case.log.lines(), b'{"seq":9,"salt":"' + b"A" * 300_000]
    return [(1, None)]


# Rule 2: the root and the tiles


@breaks
def rule_2_another_root(case: Case) -> Expected:
    case.checkpoint = case.log.checkpoint(root=bytes(32))
    return [(2, None)]


@breaks
def rule_2_a_size_beyond_the_entries(case: Case) -> Expected:
    case.checkpoint = case.log.checkpoint()._replace(size=8, signatures=())
    case.checkpoint = note.sign_checkpoint(case.checkpoint, case.log.log_vkey, case.log.log)
    return [(2, 0)]  # there is no bundle of 8 entries


@breaks
def rule_2_a_missing_entry_bundle(case: Case) -> Expected:
    case.log = long_log()
    case.files["tile/entries/001"] = None
    return [(2, 256)]


@breaks
def rule_2_a_missing_hash_tile(case: Case) -> Expected:
    case.log = long_log()
    case.files["tile/0/001"] = None
    return [(2, None)]


@breaks
def rule_2_a_missing_hash_tile_above(case: Case) -> Expected:
    case.log = long_log()
    case.files["tile/1/000.p/2"] = None
    return [(2, None)]


@breaks
def rule_2_a_hash_tile_with_another_hash(case: Case) -> Expected:
    case.log = long_log()
    case.files["tile/0/001"] = bytes(32) + b"".join(case.log.leaves[257:512])
    return [(2, None)]


@breaks
def rule_2_a_partial_hash_tile_with_another_hash(case: Case) -> Expected:
    case.files["tile/0/000.p/7"] = b"".join(case.log.leaves[:6]) + bytes(32)
    return [(2, None)]


@breaks
def rule_2_a_hash_tile_above_with_another_hash(case: Case) -> Expected:
    case.log = long_log()
    case.files["tile/1/000.p/2"] = bytes(64)
    return [(2, None)]


@breaks
def rule_2_a_hash_tile_of_another_length(case: Case) -> Expected:
    case.files["tile/0/000.p/7"] = b"".join(case.log.leaves) + bytes(32)
    return [(2, None)]


# Rule 3: seq and prev


@breaks
def rule_3_another_seq(case: Case) -> Expected:
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), seq=70)
    case.log.event()
    return [(3, seq)]


@breaks
def rule_3_an_entry_deleted_inside_and_the_rest_chained_anew(case: Case) -> Expected:
    log = case.log
    for seq in (7, 8):
        log.append_opened(Kind.EVENT, log.payload(), seq=seq + 1)
    return [(3, 7), (3, 8)]


@breaks
def rule_3_another_prev(case: Case) -> Expected:
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), prev=bytes(32))
    case.log.event()
    return [(3, seq)]


@breaks
def rule_3_another_prev_where_an_entry_bundle_begins(case: Case) -> Expected:
    case.log.events(256 - len(case.log.entries))
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), prev=case.log.leaves[0])
    case.log.event()
    return [(3, seq)]


@breaks
def rule_3_a_genesis_entry_with_something_before_it(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.GENESIS, case.log.genesis_public(), prev=b"\1" * 32)
    return [(3, 0)]


@breaks
def rule_3_an_edited_time_under_the_old_chain(case: Case) -> Expected:
    """What a superuser's UPDATE of one row looks like, with tiles and checkpoint made of what is stored."""
    case.log.entries[4] = edited(case.log.entries[4], 16, case.log.entries[4][16] ^ 1)
    case.log.leaves[4] = leaf_hash(case.log.entries[4])
    return [(3, 5)]


@breaks
def rule_3_two_entries_in_the_other_order(case: Case) -> Expected:
    log = case.log
    log.entries[3:5] = reversed(log.entries[3:5])
    log.leaves[3:5] = reversed(log.leaves[3:5])
    log.openings[3], log.openings[4] = log.openings[4], log.openings[3]
    return [(3, 3), (3, 3), (3, 4), (3, 4), (6, 4), (3, 5)]


# Rule 4: who signed, and which log


@breaks
def rule_4_a_checkpoint_that_the_given_key_did_not_sign(case: Case) -> Expected:
    case.vkey = case.log.vkey(key("the key that was promised"))
    return [(4, None)]


@breaks
def rule_4_a_checkpoint_signed_by_no_active_key(case: Case) -> Expected:
    case.log.key_entry(keys.introduce_log(case.log.vkey(key("log 2"))))
    case.log.key_entry(keys.retire_log(case.log.log_vkey))
    return [(4, None)]


@breaks
def rule_4_a_bad_signature_of_a_known_log_key(case: Case) -> Expected:
    second = case.log.vkey(key("log 2"))
    case.log.key_entry(keys.introduce_log(second))
    made = case.log.checkpoint()
    bad = note.Signature(second.name, second.key_id, bytes(64))
    case.checkpoint = made._replace(signatures=(*made.signatures, bad))
    return [(4, None)]


@breaks
def rule_4_a_bad_signature_of_a_retired_log_key(case: Case) -> Expected:
    second = case.log.vkey(key("log 2"))
    case.log.key_entry(keys.introduce_log(second))
    case.log.key_entry(keys.retire_log(second))
    made = case.log.checkpoint()
    bad = note.Signature(second.name, second.key_id, bytes(64))
    case.checkpoint = made._replace(signatures=(*made.signatures, bad))
    return [(4, None)]


@breaks
def rule_4_a_whole_new_log_with_the_stolen_log_key(case: Case) -> Expected:
    case.log_id = case.log.log_id
    case.log = LogBuilder(genesis=False)
    case.log.root = key("thief")
    case.log.append(Kind.GENESIS, case.log.genesis_public())
    return [(4, 0)]


@breaks
def rule_4_a_log_rewritten_since_the_older_checkpoint(case: Case) -> Expected:
    case.old = case.log.checkpoint(size=5)
    case.log = LogBuilder()
    case.log.policy()
    case.log.events(2)
    case.log.event(language="kk")
    case.log.events(4)
    return [(4, None)]


@breaks
def rule_4_a_log_cut_since_the_older_checkpoint(case: Case) -> Expected:
    case.old = case.log.checkpoint()
    for kept in (case.log.entries, case.log.leaves):
        kept.pop()
    case.log.openings.pop(6)
    return [(4, None)]


@breaks
def rule_4_an_older_checkpoint_of_another_log(case: Case) -> Expected:
    case.old = LogBuilder("ledger.example/we-nera.com").checkpoint()
    return [(4, None)]


@breaks
def rule_4_a_bad_signature_on_the_older_checkpoint(case: Case) -> Expected:
    made = case.log.checkpoint(size=5)
    case.old = made._replace(signatures=(made.signatures[0]._replace(value=bytes(64)),))
    return [(4, None)]


@breaks
def rule_4_a_kept_checkpoint_with_another_root(case: Case) -> Expected:
    case.kept = [case.log.checkpoint(size=3), case.log.checkpoint(size=4, root=bytes(32)), case.log.checkpoint(size=0)]
    return [(4, None)]


@breaks
def rule_4_a_kept_checkpoint_of_an_empty_log_with_another_root(case: Case) -> Expected:
    case.kept = [case.log.checkpoint(size=0, root=bytes(32))]
    return [(4, None)]


@breaks
def rule_4_a_kept_checkpoint_where_an_entry_bundle_ends_with_another_root(case: Case) -> Expected:
    case.log = long_log()
    case.kept = [case.log.checkpoint(size=256, root=bytes(32)), case.log.checkpoint(size=512)]
    return [(4, None)]


@breaks
def rule_4_a_kept_checkpoint_of_nobody(case: Case) -> Expected:
    case.kept = [case.log.checkpoint(size=4, signers=(key("nobody"),))]
    return [(4, None)]


@breaks
def rule_4_a_kept_checkpoint_that_shows_a_longer_log(case: Case) -> Expected:
    case.kept = [case.log.checkpoint()]
    for kept in (case.log.entries, case.log.leaves):
        kept.pop()
    case.log.openings.pop(6)
    return [(4, None)]


# Rule 5: kinds, commitments, public parts


@breaks
def rule_5_an_unknown_kind(case: Case) -> Expected:
    return [(5, case.log.append(5))]


@breaks
def rule_5_a_second_genesis(case: Case) -> Expected:
    return [(5, case.log.append(Kind.GENESIS, case.log.genesis_public()))]


@breaks
def rule_5_a_log_that_begins_with_an_event(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.EVENT)
    return [(5, 0)]


@breaks
def rule_5_a_genesis_with_a_fourth_line(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.GENESIS, case.log.genesis_public() + b"a name\n")
    return [(5, 0)]


@breaks
def rule_5_a_genesis_with_a_commitment(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.GENESIS, case.log.genesis_public(), commit=b"\1" * 32)
    return [(5, 0)]


@breaks
def rule_5_personal_data_in_the_public_part_of_an_event(case: Case) -> Expected:
    return [(5, case.log.append_opened(Kind.EVENT, case.log.payload(), b"Alice"))]


@breaks
def rule_5_a_policy_with_a_commitment(case: Case) -> Expected:
    return [(5, case.log.policy("2", commit=b"\1" * 32))]


@breaks
def rule_5_a_policy_without_version(case: Case) -> Expected:
    return [(5, case.log.policy(""))]


@breaks
def rule_5_a_policy_with_a_version_of_33_characters(case: Case) -> Expected:
    return [(5, case.log.policy("1" * 33))]


@breaks
def rule_5_a_policy_with_a_strange_version(case: Case) -> Expected:
    return [(5, case.log.policy("1 0"))]


@breaks
def rule_5_a_key_entry_with_a_commitment(case: Case) -> Expected:
    return [(5, case.log.introduce_ingest(key("ingest 2"), commit=b"\1" * 32))]


@breaks
def rule_5_a_key_entry_without_operation(case: Case) -> Expected:
    return [(5, case.log.key_entry(b""))]


@breaks
def rule_5_a_key_introduction_with_a_byte_more(case: Case) -> Expected:
    return [(5, case.log.key_entry(keys.introduce_ingest(case.log.log_id, key("ingest 2")) + b"!"))]


@breaks
def rule_5_an_erasure_of_nothing(case: Case) -> Expected:
    return [(5, case.log.erase())]


@breaks
def rule_5_an_erasure_with_half_a_seq(case: Case) -> Expected:
    return [(5, case.log.append_opened(Kind.ERASURE, case.log.record(), bytes(7)))]


@breaks
def rule_5_an_erasure_of_too_many(case: Case) -> Expected:
    public = b"".join(seq.to_bytes(8, "big") for seq in range(2, 2 + 4097))
    return [(5, case.log.append_opened(Kind.ERASURE, case.log.record(), public))]


# Rule 6: time


@breaks
def rule_6_time_set_back(case: Case) -> Expected:
    case.log.now_ms -= 3600_000
    return [(6, case.log.event())]


@breaks
def rule_6_time_set_back_where_an_entry_bundle_begins(case: Case) -> Expected:
    case.log.events(256 - len(case.log.entries))
    case.log.now_ms -= 1001
    return [(6, case.log.event())]


def seconds_before(log: LogBuilder, seq: int, ms: int) -> int:
    """Unix seconds of a cosignature so that entry `seq` lies exactly `ms` (whole seconds) after it."""
    return (START_MS + 1000 * (seq + 1) - ms) // 1000


@breaks
def rule_6_an_entry_more_than_60_s_after_a_cosignature_that_covers_it(case: Case) -> Expected:
    case.witnesses = (witness(),)
    case.checkpoint = case.log.checkpoint(cosigned=[("witness.example/w1", seconds_before(case.log, 5, 60_000))])
    return [(6, 6)]


@breaks
def rule_6_an_earlier_cosignature_beside_a_later_one_of_the_same_witness(case: Case) -> Expected:
    case.witnesses = (witness(),)
    early, late = seconds_before(case.log, 5, 60_000), seconds_before(case.log, 5, 0)
    case.checkpoint = case.log.checkpoint(cosigned=[("witness.example/w1", early), ("witness.example/w1", late)])
    return [(6, 6)]


@breaks
def rule_6_a_kept_cosignature_bounds_the_entries_it_covers(case: Case) -> Expected:
    case.witnesses = (witness(),)
    early = [("witness.example/w1", seconds_before(case.log, 2, 60_000))]
    case.kept = [case.log.checkpoint(size=4, cosigned=early)]
    late = [("witness.example/w1", seconds_before(case.log, 6, 0))]
    case.checkpoint = case.log.checkpoint(cosigned=late)
    return [(6, 3)]


@breaks
def rule_6_a_later_cosignature_bounds_earlier_entries_too(case: Case) -> Expected:
    case.witnesses = (witness(), witness("witness.example/w2"))
    case.kept = [case.log.checkpoint(size=4, cosigned=[("witness.example/w1", seconds_before(case.log, 3, 0))])]
    case.old = case.log.checkpoint(size=5, cosigned=[("witness.example/w2", seconds_before(case.log, 1, 60_000))])
    return [(6, 2), (6, 3), (6, 4)]


@breaks
def rule_6_a_bad_cosignature_of_a_trusted_witness(case: Case) -> Expected:
    case.witnesses = (witness(),)
    made = case.log.checkpoint(cosigned=[("witness.example/w1", START_MS)])
    last = made.signatures[-1]
    bad = last._replace(value=last.value[:-1] + bytes((last.value[-1] ^ 1,)))
    case.checkpoint = made._replace(signatures=(*made.signatures[:-1], bad))
    return [(6, None)]


# Rule 7: signers


@breaks
def rule_7_an_event_by_an_unknown_key(case: Case) -> Expected:
    return [(7, case.log.append_opened(Kind.EVENT, case.log.payload(), signer=key("thief")))]


@breaks
def rule_7_an_event_by_the_root_key(case: Case) -> Expected:
    return [(7, case.log.append_opened(Kind.EVENT, case.log.payload(), signer=case.log.root))]


@breaks
def rule_7_a_policy_by_the_root_key(case: Case) -> Expected:
    return [(7, case.log.policy("2", signer=case.log.root))]


@breaks
def rule_7_an_event_by_a_key_that_is_introduced_later(case: Case) -> Expected:
    second = key("ingest 2")
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), signer=second)
    case.log.introduce_ingest(second)
    return [(7, seq)]


@breaks
def rule_7_an_event_by_a_retired_key(case: Case) -> Expected:
    case.log.introduce_ingest(key("ingest 2"))
    case.log.key_entry(keys.retire_ingest(case.log.ingest.public))
    return [(7, case.log.event())]


@breaks
def rule_7_an_event_by_a_key_retired_in_an_earlier_entry_bundle(case: Case) -> Expected:
    retired, case.log.ingest = case.log.ingest, key("ingest 2")
    case.log.introduce_ingest(case.log.ingest)
    case.log.key_entry(keys.retire_ingest(retired.public))
    case.log.events(300)
    return [(7, case.log.append_opened(Kind.EVENT, case.log.payload(), signer=retired))]


@breaks
def rule_7_a_thiefs_key_introduced_with_a_stolen_ingest_key(case: Case) -> Expected:
    seq = case.log.introduce_ingest(key("thief"), signer=case.log.ingest)
    forged = case.log.append_opened(Kind.EVENT, case.log.payload(), signer=key("thief"))
    return [(7, seq), (7, forged)]


@breaks
def rule_7_a_key_operation_with_the_roots_name_and_anothers_signature(case: Case) -> Expected:
    public = keys.introduce_ingest(case.log.log_id, key("thief"))
    core = entry.core_bytes(case.log.log_id, Kind.KEY, entry.ZEROS, public)
    return [(7, case.log.key_entry(public, signature=case.log.ingest.sign(core)))]


@breaks
def rule_7_a_signature_over_another_core(case: Case) -> Expected:
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), signature=case.log.ingest.sign(b"another core"))
    return [(7, seq)]


@breaks
def rule_7_an_entry_of_another_log(case: Case) -> Expected:
    return [(7, case.log.append_opened(Kind.EVENT, case.log.payload(), log=b"\1" * 32))]


@breaks
def rule_7_a_genesis_that_its_root_did_not_sign(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.GENESIS, case.log.genesis_public(), signature=bytes(64))
    return [(7, 0)]


@breaks
def rule_7_a_genesis_signed_by_its_ingest_key(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.GENESIS, case.log.genesis_public(), signer=case.log.ingest)
    return [(7, 0)]


def core_of(log: LogBuilder, commit: bytes) -> bytes:
    return entry.core_bytes(log.log_id, Kind.EVENT, commit, b"")


@breaks
def rule_7_a_signature_with_s_not_below_the_order(case: Case) -> Expected:
    log = case.log
    payload = log.payload()
    commit = entry.commitment(log.salt(), payload)
    signature = log.ingest.sign(core_of(log, commit))
    s = int.from_bytes(signature[32:], "little") + ORDER
    return [(7, log.append_opened(Kind.EVENT, payload, signature=signature[:32] + s.to_bytes(32, "little")))]


@breaks
def rule_7_a_signature_with_an_r_of_small_order(case: Case) -> Expected:
    """R is the neutral point, and S·B = R + h·A holds: only the check for small order refuses it."""
    log = case.log
    payload = log.payload()
    core = core_of(log, entry.commitment(log.salt(), payload))
    clamped = int.from_bytes(sha512(log.ingest.seed).digest()[:32], "little") & ~7 & (1 << 254) - 1 | 1 << 254
    r = (1).to_bytes(32, "little")
    h = int.from_bytes(sha512(r + log.ingest.public + core).digest(), "little")
    s = h * clamped % ORDER
    return [(7, log.append_opened(Kind.EVENT, payload, signature=r + s.to_bytes(32, "little")))]


@pytest.mark.parametrize("name", list(breaks))
def test_a_broken_rule_is_seen_by_its_number_at_its_entry(name: str, tmp_path: Path) -> None:
    case = Case(short_log())
    expected = breaks[name](case)
    report = case.audit(tmp_path)
    assert faults(report) == expected
    assert report.verdict == "fault"
    assert report.exit_code == 1
    assert int(name.split("_")[1]) in {rule for rule, _ in expected}
