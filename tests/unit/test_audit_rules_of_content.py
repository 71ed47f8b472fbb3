"""Rules 8 to 14: keys, uniqueness, documents, openings, erasures, older checkpoints, and logs without payloads."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from ledger.core import ed25519, entry, keys, note
from ledger.core.entry import Kind
from ledger.core.event import MAX_PAYLOAD_BYTES
from tests.logbuilder import DOCUMENT, LogBuilder, full_log, key, witness
from tests.unit.audit_cases import Breaks, Case, Expected, faults, long_log, short_log

SMALL_ORDER = (1).to_bytes(32, "little")
NOT_CANONICAL = (2**255 - 19 + 3).to_bytes(32, "little")
ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
breaks = Breaks()

# Rule 8: keys


def introduction(log: LogBuilder, public: bytes) -> bytes:
    """Of a key for which nobody can prove possession."""
    return bytes((keys.INTRODUCE_INGEST,)) + public + bytes(64)


@breaks
def rule_8_an_ingest_key_of_small_order(case: Case) -> Expected:
    return [(8, case.log.key_entry(introduction(case.log, SMALL_ORDER)))]


@breaks
def rule_8_an_ingest_key_that_is_not_canonical(case: Case) -> Expected:
    return [(8, case.log.key_entry(introduction(case.log, NOT_CANONICAL)))]


@breaks
def rule_8_a_log_key_of_small_order(case: Case) -> Expected:
    weak = note.VerifierKey(case.log.origin, note.TYPE_ED25519, ORDER_8)
    return [(8, case.log.key_entry(bytes((keys.INTRODUCE_LOG,)) + str(weak).encode()))]


@breaks
def rule_8_a_key_introduced_twice(case: Case) -> Expected:
    """Its core is there twice as well, which is rule 9."""
    case.log.introduce_ingest(key("ingest 2"))
    again = case.log.introduce_ingest(key("ingest 2"))
    return [(8, again), (9, again)]


@breaks
def rule_8_a_retired_key_introduced_again(case: Case) -> Expected:
    case.log.introduce_ingest(key("ingest 2"))
    case.log.key_entry(keys.retire_ingest(case.log.ingest.public))
    return [(8, case.log.introduce_ingest(case.log.ingest))]


@breaks
def rule_8_the_root_key_as_ingest_key(case: Case) -> Expected:
    return [(8, case.log.introduce_ingest(case.log.root))]


@breaks
def rule_8_the_log_key_as_ingest_key(case: Case) -> Expected:
    return [(8, case.log.introduce_ingest(case.log.log))]


@breaks
def rule_8_an_ingest_key_as_log_key(case: Case) -> Expected:
    return [(8, case.log.key_entry(keys.introduce_log(case.log.vkey(case.log.ingest))))]


@breaks
def rule_8_one_key_in_two_roles_of_the_genesis(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.ingest = case.log.root
    case.log.append(Kind.GENESIS, case.log.genesis_public())
    return [(8, 0)]


@breaks
def rule_8_a_weak_ingest_key_in_the_genesis(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    case.log.append(Kind.GENESIS, keys.encode_genesis(case.log.log_vkey, SMALL_ORDER, case.log.root.public))
    return [(8, 0)]


@breaks
def rule_8_a_genesis_vkey_of_another_name(case: Case) -> Expected:
    case.log = LogBuilder(genesis=False)
    other = note.VerifierKey("ledger.example/we-nera.com", note.TYPE_ED25519, case.log.log.public)
    case.log.append(Kind.GENESIS, keys.encode_genesis(other, case.log.ingest.public, case.log.root.public))
    return [(8, 0)]


@breaks
def rule_8_a_vkey_of_another_name(case: Case) -> Expected:
    other = note.VerifierKey("ledger.example/we-nera.com", note.TYPE_ED25519, key("log 2").public)
    return [(8, case.log.key_entry(keys.introduce_log(other)))]


@breaks
def rule_8_a_failed_proof_of_possession(case: Case) -> Expected:
    return [(8, case.log.key_entry(introduction(case.log, key("ingest 2").public)))]


@breaks
def rule_8_a_proof_of_possession_for_another_log(case: Case) -> Expected:
    return [(8, case.log.key_entry(keys.introduce_ingest(bytes(32), key("ingest 2"))))]


@breaks
def rule_8_a_retirement_of_an_unknown_ingest_key(case: Case) -> Expected:
    return [(8, case.log.key_entry(keys.retire_ingest(key("nobody").public)))]


@breaks
def rule_8_a_retirement_of_an_unknown_log_key(case: Case) -> Expected:
    return [(8, case.log.key_entry(keys.retire_log(case.log.vkey(key("nobody")))))]


@breaks
def rule_8_an_unknown_operation(case: Case) -> Expected:
    return [(8, case.log.key_entry(b"\5" + bytes(32)))]


# Rule 9: unique, and cited


@breaks
def rule_9_an_event_replayed(case: Case) -> Expected:
    salt, payload = case.log.openings[3]
    seq = case.log.append_opened(Kind.EVENT, payload, salt=salt)
    return [(9, seq), (9, seq)]  # its commitment, and its id


@breaks
def rule_9_an_erased_event_replayed_and_erased(case: Case) -> Expected:
    commit = entry.decode(case.log.entries[3]).commit
    case.log.erase(3)
    seq = case.log.append(Kind.EVENT, commit=commit)
    case.log.erase(seq)
    return [(9, seq)]


@breaks
def rule_9_an_event_replayed_in_another_entry_bundle(case: Case) -> Expected:
    commit = entry.decode(case.log.entries[3]).commit
    case.log.erase(3)
    case.log.events(300)
    seq = case.log.append(Kind.EVENT, commit=commit)
    case.log.erase(seq)
    return [(9, seq)]


@breaks
def rule_9_an_event_id_used_again(case: Case) -> Expected:
    return [(9, case.log.event(id="01980000-0000-7000-8000-000000000003", language="kk"))]


@breaks
def rule_9_an_erasure_replayed(case: Case) -> Expected:
    case.log.erase(3)
    salt, payload = case.log.openings[7]
    seq = case.log.append_opened(Kind.ERASURE, payload, (4).to_bytes(8, "big"), salt=salt)
    case.log.openings.pop(4)
    return [(9, seq)]


@breaks
def rule_9_a_policy_version_used_again(case: Case) -> Expected:
    return [(9, case.log.policy("1.0", b"another text under the same version"))]


@breaks
def rule_9_a_policy_replayed(case: Case) -> Expected:
    return [(9, case.log.policy("1.0"))]


@breaks
def rule_9_a_key_retirement_replayed(case: Case) -> Expected:
    case.log.introduce_ingest(key("ingest 2"))
    case.log.key_entry(keys.retire_ingest(key("ingest 2").public))
    seq = case.log.key_entry(keys.retire_ingest(key("ingest 2").public))
    return [(8, seq), (9, seq)]


@breaks
def rule_9_a_missing_policy_document(case: Case) -> Expected:
    case.files[f"documents/{sha256(DOCUMENT).hexdigest()}"] = None
    return [(9, 1)]


@breaks
def rule_9_an_altered_policy_document(case: Case) -> Expected:
    case.files[f"documents/{sha256(DOCUMENT).hexdigest()}"] = DOCUMENT + b"\n"
    return [(9, 1)]


@breaks
def rule_9_a_shown_document_that_is_not_at_hand(case: Case) -> Expected:
    return [(9, case.log.event(shown=sha256(b"never published").hexdigest()))]


@breaks
def rule_9_an_altered_document_that_was_shown(case: Case) -> Expected:
    digest = case.log.document(b"the notice")
    seq = case.log.event(shown=digest.hex())
    case.log.event(shown=digest.hex())
    case.files[f"documents/{digest.hex()}"] = b"another notice"
    return [(9, seq)]


@breaks
def rule_9_a_policy_version_that_was_never_published(case: Case) -> Expected:
    return [(9, case.log.event(policyVersion="2.0"))]


@breaks
def rule_9_a_policy_version_published_later(case: Case) -> Expected:
    seq = case.log.event(policyVersion="2.0")
    case.log.policy("2.0")
    case.log.event(policyVersion="2.0")
    return [(9, seq)]


# Rule 10: openings


@breaks
def rule_10_a_payload_edited(case: Case) -> Expected:
    salt, payload = case.log.openings[3]
    case.log.openings[3] = salt, payload.replace(b"granted", b"denied")
    return [(10, 3)]


@breaks
def rule_10_a_salt_edited(case: Case) -> Expected:
    case.log.openings[3] = bytes(32), case.log.openings[3][1]
    return [(10, 3)]


@breaks
def rule_10_payloads_swapped(case: Case) -> Expected:
    openings = case.log.openings
    openings[3], openings[4] = openings[4], openings[3]
    return [(10, 3), (10, 4)]


@breaks
def rule_10_a_salt_of_31_bytes(case: Case) -> Expected:
    return [(10, case.log.append_opened(Kind.EVENT, case.log.payload(), salt=b"\1" * 31))]


@breaks
def rule_10_a_byte_moved_from_the_payload_into_the_salt(case: Case) -> Expected:
    """The commitment is over salt and payload joined, so it still fits: only their lengths are wrong."""
    salt, payload = case.log.openings[3]
    case.log.openings[3] = salt + payload[:1], payload[1:]
    return [(10, 3), (10, 3)]


@breaks
def rule_10_an_opening_of_a_policy(case: Case) -> Expected:
    case.log.openings[1] = case.log.openings[3]
    return [(10, 1)]


@breaks
def rule_10_an_opening_of_an_entry_beyond_the_log(case: Case) -> Expected:
    case.log.openings[7] = case.log.openings[3]
    return [(10, None)]


@breaks
def rule_10_two_openings_of_one_entry(case: Case) -> Expected:
    lines = case.log.lines()
    case.lines = [*lines[:2], lines[1], *lines[2:]]
    return [(10, 3)]


@breaks
def rule_10_more_openings_than_entries(case: Case) -> Expected:
    lines = case.log.lines()
    case.lines = [*lines, lines[-1], lines[-1], lines[-1]]
    return [(10, 6)] * 3


@breaks
def rule_10_an_opening_in_the_place_of_a_later_entry_bundle(case: Case) -> Expected:
    case.log = long_log()
    lines = case.log.lines()
    case.lines = [*lines[:50], *lines[51:300], lines[50], *lines[300:]]
    return [(10, 52), (12, 52)]


@breaks
def rule_10_openings_out_of_order(case: Case) -> Expected:
    lines = case.log.lines()
    case.lines = [lines[1], lines[0], *lines[2:]]
    return [(10, 2)]


def rule_10_payload(case: Case, payload: bytes) -> Expected:
    return [(10, case.log.append_opened(Kind.EVENT, payload))]


@breaks
def rule_10_a_payload_with_white_space(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload().replace(b":", b": ", 1))


@breaks
def rule_10_a_payload_with_a_doubled_member(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload().replace(b'{"action"', b'{"action":"gpc","action"', 1))


@breaks
def rule_10_a_payload_with_a_doubled_purpose(case: Case) -> Expected:
    doubled = b'{"analytics":"denied","analytics":"granted"'
    return rule_10_payload(case, case.log.payload().replace(b'{"analytics":"granted"', doubled, 1))


@breaks
def rule_10_a_payload_with_members_in_another_order(case: Case) -> Expected:
    payload = case.log.payload()
    action = b'"action":"customize",'
    return rule_10_payload(
        case,
        payload.replace(action, b"", 1).replace(b'"decisions"', action + b'"decisions"', 1)[:-1] + b',"region":"KZ"}',
    )


@breaks
def rule_10_a_payload_with_an_escape_that_is_not_needed(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload().replace(b"customize", b"customi\\u007ae", 1))


@breaks
def rule_10_a_payload_with_null(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload(language="ru").replace(b'"ru"', b"null", 1))


@breaks
def rule_10_a_payload_with_a_member_at_its_default(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload().replace(b'"id"', b'"gpc":false,"id"', 1))


@breaks
def rule_10_a_payload_with_an_unknown_member(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload(zodiac="lion"))


@breaks
def rule_10_a_payload_with_a_local_time(case: Case) -> Expected:
    return rule_10_payload(case, case.log.payload(occurredAt="2026-11-21T03:00:00.000+05:00"))


@breaks
def rule_10_a_payload_that_is_no_json(case: Case) -> Expected:
    return rule_10_payload(case, b"granted")


@breaks
def rule_10_a_payload_of_another_site(case: Case) -> Expected:
    return [(10, case.log.event(site="we-nera.com"))]


@breaks
def rule_10_an_erasure_record_of_another_site(case: Case) -> Expected:
    case.log.openings.pop(3)
    public = (3).to_bytes(8, "big")
    return [(10, case.log.append_opened(Kind.ERASURE, case.log.record(site="we-nera.com"), public))]


@breaks
def rule_10_an_erasure_record_with_a_name_in_it(case: Case) -> Expected:
    case.log.openings.pop(3)
    public = (3).to_bytes(8, "big")
    return [(10, case.log.append_opened(Kind.ERASURE, case.log.record(name="Alice"), public))]


@breaks
def rule_10_an_erasure_record_for_no_known_reason(case: Case) -> Expected:
    case.log.openings.pop(3)
    public = (3).to_bytes(8, "big")
    return [(10, case.log.append_opened(Kind.ERASURE, case.log.record(reason="because"), public))]


# Rule 11: what an erasure names


def rule_11_erasure(case: Case, *seqs: int) -> Expected:
    """Of these seqs, leaving the openings where they are."""
    kept = dict(case.log.openings)
    seq = case.log.erase(*seqs)
    record = case.log.openings[seq]
    case.log.openings = kept | {seq: record}
    return [(11, seq)]


@breaks
def rule_11_an_erasure_of_itself(case: Case) -> Expected:
    return rule_11_erasure(case, 7)


@breaks
def rule_11_an_erasure_of_the_future(case: Case) -> Expected:
    expected = rule_11_erasure(case, 8)
    case.log.event()
    return expected


@breaks
def rule_11_an_erasure_of_the_far_future(case: Case) -> Expected:
    return rule_11_erasure(case, 2**64 - 1)


@breaks
def rule_11_an_erasure_of_a_policy(case: Case) -> Expected:
    return rule_11_erasure(case, 1)


@breaks
def rule_11_an_erasure_of_an_erasure(case: Case) -> Expected:
    erasure = case.log.erase(3)
    return rule_11_erasure(case, erasure)


@breaks
def rule_11_an_event_erased_twice(case: Case) -> Expected:
    case.log.erase(3)
    return [(11, case.log.erase(3, 4))]


@breaks
def rule_11_an_event_erased_twice_from_another_entry_bundle(case: Case) -> Expected:
    case.log.erase(3)
    case.log.events(300)
    return [(11, case.log.erase(3))]


@breaks
def rule_11_seqs_that_do_not_ascend(case: Case) -> Expected:
    return [(11, case.log.erase(4, 3))]


@breaks
def rule_11_a_seq_named_twice_in_one_erasure(case: Case) -> Expected:
    seq = case.log.erase(3, 3)
    return [(11, seq), (11, seq)]


# Rule 12: opened or erased


@breaks
def rule_12_a_payload_deleted_in_silence(case: Case) -> Expected:
    case.log.openings.pop(3)
    return [(12, 3)]


@breaks
def rule_12_payloads_deleted_in_silence_in_several_entry_bundles(case: Case) -> Expected:
    case.log = long_log()
    for seq in (2, 255, 256, 599):
        case.log.openings.pop(seq)
    return [(12, 2), (12, 255), (12, 256), (12, 599)]


@breaks
def rule_12_an_erased_event_whose_opening_is_still_there(case: Case) -> Expected:
    opening = case.log.openings[3]
    case.log.erase(3)
    case.log.openings[3] = opening
    return [(12, 3)]


@breaks
def rule_12_an_erasure_record_that_vanished(case: Case) -> Expected:
    seq = case.log.erase(3)
    case.log.openings.pop(seq)
    return [(12, seq)]


# Rule 13: an older checkpoint skips signatures and nothing else


def signed_before(case: Case, expected: Expected) -> Expected:
    """All that is in the log by now is covered by the auditor's older checkpoint."""
    case.old = case.log.checkpoint()
    case.log.events(2)
    return expected


@breaks
def rule_13_rule_5_holds_below_an_older_checkpoint(case: Case) -> Expected:
    return signed_before(case, [(5, case.log.append_opened(Kind.EVENT, case.log.payload(), b"Alice"))])


@breaks
def rule_13_rule_8_holds_below_an_older_checkpoint(case: Case) -> Expected:
    return signed_before(case, [(8, case.log.key_entry(introduction(case.log, SMALL_ORDER)))])


@breaks
def rule_13_rule_9_holds_below_an_older_checkpoint(case: Case) -> Expected:
    return signed_before(case, [(9, case.log.event(id="01980000-0000-7000-8000-000000000003", language="kk"))])


@breaks
def rule_13_rule_11_holds_below_an_older_checkpoint(case: Case) -> Expected:
    return signed_before(case, [(11, case.log.erase(4, 3))])


@breaks
def rule_13_rule_12_holds_below_an_older_checkpoint(case: Case) -> Expected:
    case.log.openings.pop(3)
    return signed_before(case, [(12, 3)])


@breaks
def rule_13_a_retired_key_is_refused_below_an_older_checkpoint(case: Case) -> Expected:
    case.log.introduce_ingest(key("ingest 2"))
    case.log.key_entry(keys.retire_ingest(case.log.ingest.public))
    seq = case.log.event()
    case.log.ingest = key("ingest 2")
    return signed_before(case, [(7, seq)])


@breaks
def rule_13_signatures_beyond_an_older_checkpoint_are_checked(case: Case) -> Expected:
    signed_before(case, [])
    return [(7, case.log.append_opened(Kind.EVENT, case.log.payload(), signature=bytes(64)))]


@breaks
def rule_13_an_older_checkpoint_of_another_key_spares_no_signature(case: Case) -> Expected:
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), signature=bytes(64))
    case.old = case.log.checkpoint(signers=(key("another"),))
    return [(7, seq)]


# Rule 14: without payloads


@breaks
def rule_14_a_fault_is_a_fault_without_payloads_too(case: Case) -> Expected:
    seq = case.log.append_opened(Kind.EVENT, case.log.payload(), signature=bytes(64))
    case.files["payloads.ndjson"] = None
    return [(7, seq)]


@pytest.mark.parametrize("name", list(breaks))
def test_a_broken_rule_is_seen_by_its_number_at_its_entry(name: str, tmp_path: Path) -> None:
    case = Case(short_log())
    expected = breaks[name](case)
    report = case.audit(tmp_path)
    assert faults(report) == expected
    assert report.verdict == "fault"
    assert report.exit_code == 1
    number = int(name.split("_")[1])
    assert number in {rule for rule, _ in expected} | {13, 14}


def notes(report: object) -> set[int]:
    return {note.rule for note in report.notes}  # type: ignore[attr-defined]


def test_a_log_with_every_kind_of_entry_is_sound(tmp_path: Path) -> None:
    log = full_log(600)
    signers = (key("log"), key("log 2"))
    last = log.now_ms // 1000
    case = Case(log, log_id=log.log_id, old=log.checkpoint(size=6), witnesses=(witness(),))
    case.kept = [log.checkpoint(size=300, signers=signers, cosigned=[("witness.example/w1", last - 100)])]
    case.checkpoint = log.checkpoint(signers=signers, cosigned=[("witness.example/w1", last), ("somebody", 3)])
    report = case.audit(tmp_path)
    assert faults(report) == []
    assert (report.verdict, report.exit_code, report.root_key) == ("sound", 0, "pinned")
    assert report.counts.events == report.counts.opened + report.counts.erased == 602
    assert (report.counts.erased, report.counts.erasures, report.counts.policies, report.counts.keys) == (2, 1, 2, 3)
    assert report.longest_cosignature_gap_seconds == 100
    assert notes(report) == {6, 13}


def test_rule_4_the_report_says_that_the_root_key_was_asserted_by_the_log_itself(tmp_path: Path) -> None:
    case = Case(short_log())
    report = case.audit(tmp_path / "unpinned")
    assert (report.verdict, report.root_key, notes(report)) == ("sound", "asserted", {4})
    case.log_id = case.log.log_id
    report = case.audit(tmp_path / "pinned")
    assert (report.verdict, report.root_key, notes(report)) == ("sound", "pinned", set())


def test_rule_4_an_older_checkpoint_of_the_pinned_key_stands_in_for_its_signature(tmp_path: Path) -> None:
    """After a rotation the key that the auditor knows signs no more."""
    log = full_log()
    log.key_entry(keys.retire_log(log.log_vkey))
    case = Case(log, old=log.checkpoint(size=6), checkpoint=log.checkpoint(signers=(key("log 2"),)))
    assert faults(case.audit(tmp_path)) == []


def test_rule_4_signatures_of_unknown_keys_are_ignored(tmp_path: Path) -> None:
    log = short_log()
    unknown = note.Signature(log.origin, b"1234", b"anything")
    made = log.checkpoint()
    case = Case(log, checkpoint=made._replace(signatures=(unknown, *made.signatures, unknown)))
    assert faults(case.audit(tmp_path)) == []


def test_rule_6_an_entry_60_s_after_a_cosignature_that_covers_it_is_sound(tmp_path: Path) -> None:
    log = short_log()
    case = Case(log, witnesses=(witness(),))
    case.checkpoint = log.checkpoint(cosigned=[("witness.example/w1", log.now_ms // 1000 - 60)])
    assert faults(case.audit(tmp_path)) == []


def test_rule_6_cosignatures_of_witnesses_that_are_not_trusted_bound_nothing(tmp_path: Path) -> None:
    log = short_log()
    case = Case(log, checkpoint=log.checkpoint(cosigned=[("witness.example/w1", 1)]), witnesses=(witness("other"),))
    report = case.audit(tmp_path)
    assert faults(report) == []
    assert notes(report) == {4, 6}


def test_rule_13_signatures_below_an_older_checkpoint_are_not_checked_again_and_the_report_says_so(
    tmp_path: Path,
) -> None:
    log = short_log()
    log.append_opened(Kind.EVENT, log.payload(), signature=bytes(64))
    case = Case(log, old=log.checkpoint())
    log.events(3)
    report = case.audit(tmp_path)
    assert faults(report) == []
    assert report.signatures_checked == 1 + 3
    assert notes(report) == {13}


def test_rule_14_without_payloads_the_verdict_is_log_only(tmp_path: Path) -> None:
    case = Case(full_log(), checkpoint=None, files={"payloads.ndjson": None})
    report = case.audit(tmp_path)
    assert (report.verdict, report.exit_code, faults(report)) == ("log only", 3, [])
    assert 14 in notes(report)


def test_rule_14_files_beyond_the_size_are_ignored(tmp_path: Path) -> None:
    case = Case(short_log(), files={"tile/entries/001": b"?", "tile/0/000": b"?", "tile/7/000": b"?", "notes.txt": b""})
    assert faults(case.audit(tmp_path)) == []


def test_a_payload_may_be_as_large_as_the_ledger_takes(tmp_path: Path) -> None:
    log = short_log()
    decisions = {f"purpose-{i:0>50}": "denied" for i in range(64)}
    log.event(decisions=decisions, type="consent.refused", policyVersion=None, citedPolicyVersion="é" * 64)
    assert len(log.openings[7][1]) < MAX_PAYLOAD_BYTES
    assert faults(Case(log).audit(tmp_path)) == []


def test_all_faults_are_listed_in_log_order_up_to_a_bound_and_the_rest_counted(tmp_path: Path) -> None:
    log = short_log()
    for _ in range(300):
        log.append_opened(Kind.EVENT, log.payload(), signature=bytes(64))
    report = Case(log).audit(tmp_path)
    assert faults(report) == [(7, seq) for seq in range(7, 107)]
    assert report.fault_count == 300


def test_an_empty_log_has_no_key_that_could_sign_it(tmp_path: Path) -> None:
    log = LogBuilder(genesis=False)
    assert faults(Case(log).audit(tmp_path)) == [(4, None)]


def test_rule_8_weak_points_are_refused_whatever_the_library_thinks() -> None:
    for weak in (SMALL_ORDER, NOT_CANONICAL, ORDER_8, bytes(32), b"\xff" * 32):
        with pytest.raises(keys.KeyRefused):
            ed25519.check_public(weak)
