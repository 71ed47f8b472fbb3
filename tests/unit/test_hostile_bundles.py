"""A bundle comes from strangers: whatever lies in it is a fault or a clear refusal, never a traceback or a hang."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.bundle import Directory, OpeningLines, Writer
from ledger.core import audit, key_audit, keys
from ledger.core.encoding import encode_base64
from ledger.core.errors import Malformed
from ledger.core.faults import Faults
from ledger.core.heads import Pins
from ledger.core.opening import MAX_LINE_BYTES, Opening, decode_line, encode_line, peek_seq
from ledger.core.unique import Fingerprints, Recheck, fingerprints
from ledger.verify import Report, verify, walk
from tests.logbuilder import LogBuilder, full_log, key
from tests.unit.audit_cases import Case, faults, short_log


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return short_log().write(tmp_path / "bundle")


def look(bundle: Path) -> Report:
    return verify(Directory(bundle), Pins(LogBuilder().log_vkey))


Change = Callable[[Path], object]


def sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def replaced(path: Path, make: Change) -> None:
    path.unlink()
    make(path)


def a_socket(path: Path) -> None:
    """Bound under a relative name: socket paths are short."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def a_link(target: str) -> Change:
    return lambda path: path.symlink_to(target)


ENTRIES, TILE = "tile/entries/000.p/7", "tile/0/000.p/7"
ODD: dict[str, Change] = {
    "sparse": sparse,
    "a folder": lambda path: replaced(path, Path.mkdir),
    "a pipe": lambda path: replaced(path, os.mkfifo),
    "a socket": lambda path: replaced(path, a_socket),
    "a link that leads out": lambda path: replaced(path, a_link("/etc/passwd")),
    "a link to a device": lambda path: replaced(path, a_link("/dev/zero")),
    "a link to itself": lambda path: replaced(path, a_link(path.name)),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    ("path", "rule"),
    [("checkpoint", 1), (ENTRIES, 1), (TILE, 2), ("payloads.ndjson", 1), ("documents", 9), ("kept", 1)],
)
def test_what_is_no_file_of_a_bounded_size_is_a_fault(bundle: Path, path: str, rule: int, odd: str) -> None:
    if path == "documents":
        path = f"documents/{next((bundle / path).iterdir()).name}"
    elif path == "kept":
        path = "checkpoints/1"
        (bundle / path).parent.mkdir()
        (bundle / path).touch()
    ODD[odd](bundle / path)
    report = look(bundle)
    assert report.verdict == "fault"
    assert report.faults[0].rule == rule


def test_a_link_within_the_bundle_is_as_good_as_a_file(bundle: Path) -> None:
    (bundle / TILE).rename(bundle / "elsewhere")
    (bundle / TILE).symlink_to(bundle / "elsewhere")
    (bundle.parent / "link").symlink_to(bundle)
    assert look(bundle.parent / "link").verdict == "sound"


def test_a_link_out_of_the_bundle_is_not_followed_even_to_the_right_bytes(bundle: Path) -> None:
    (bundle / ENTRIES).rename(bundle.parent / "outside")
    (bundle / ENTRIES).symlink_to(bundle.parent / "outside")
    assert faults(look(bundle)) == [(1, 0)]


def test_an_entry_that_no_bundle_can_hold_is_not_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "bundle")
    with pytest.raises(Malformed, match="no bundle can hold it"):
        writer.entry(bytes(65_536))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_checkpoints_that_is_a_link_is_not_entered(bundle: Path) -> None:
    (bundle / "checkpoints").symlink_to("/etc")
    assert look(bundle).verdict == "sound"


def test_a_directory_without_checkpoint_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="no bundle"):
        look(tmp_path)


def test_a_size_beyond_all_reason_ends_at_the_first_missing_entry_bundle(tmp_path: Path) -> None:
    log = short_log()
    made = log.checkpoint()._replace(size=2**53 - 1)
    report = Case(log, checkpoint=made).audit(tmp_path)
    assert (2, 0) in faults(report)


def test_names_from_a_bundle_do_not_steer_the_terminal(bundle: Path) -> None:
    (bundle / "checkpoints").mkdir()
    name = os.fsdecode(b"\x1b[2J\x9b31m\xff")
    (bundle / "checkpoints" / name).touch()
    report = look(bundle)
    assert report.faults[0].detail.isprintable()
    report.encode()


def test_every_truncation_of_every_file_is_a_fault(bundle: Path) -> None:
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for size in {0, 1, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:size])
            if size == len(data) - 1 and path.name == "payloads.ndjson":
                continue  # the last newline alone
            assert look(bundle).verdict == "fault", (path, size)
        path.write_bytes(data)
    assert look(bundle).verdict == "sound"


def test_every_file_missing_is_noticed(bundle: Path) -> None:
    for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
        hidden = bundle.parent / "hidden"
        path.rename(hidden)
        if path.name == "checkpoint":
            with pytest.raises(Malformed):
                look(bundle)
        else:
            assert look(bundle).verdict == ("log only" if path.name == "payloads.ndjson" else "fault")
        hidden.rename(path)


def test_random_damage_never_ends_in_a_traceback_and_never_in_sound(tmp_path: Path) -> None:
    rng = random.Random(20261121)
    log = full_log(30)
    log.event(shown=log.document(b"the notice as it was shown").hex())
    original = log.write(tmp_path / "original")
    for _ in range(300):
        copy = tmp_path / "copy"
        shutil.copytree(original, copy)
        path = rng.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data))
        damage = rng.choice(("flip", "cut", "double", "insert"))
        if damage == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif damage == "cut":
            del data[at : at + rng.randrange(1, 40)]
        elif damage == "double":
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 10))
        path.write_bytes(data)
        report = look(copy)
        harmless = path.name == "payloads.ndjson" and look_of_lines(copy) == look_of_lines(original)
        harmless |= path.name == "checkpoint" and path.read_bytes() == (original / "checkpoint").read_bytes()
        assert report.verdict == ("sound" if harmless else "fault"), (path, damage, at)
        shutil.rmtree(copy)


def look_of_lines(bundle: Path) -> list[Opening] | None:
    """What the openings say, whatever their white space; None if that cannot be read."""
    try:
        return [decode_line(line) for line in (bundle / "payloads.ndjson").read_bytes().split(b"\n") if line]
    except Malformed:
        return None


# What no log comes near is refused rather than let fill the memory.


def test_too_many_policies_keys_or_kept_checkpoints_cannot_be_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_POLICY_ENTRIES", 3)
    monkeypatch.setattr(key_audit, "MAX_KEY_ENTRIES", 3)
    monkeypatch.setattr(walk, "MAX_KEPT_CHECKPOINTS", 3)
    policies, operations, kept = LogBuilder(), LogBuilder(), Case(short_log())
    for version in range(4):
        policies.policy(str(version))
        operations.key_entry(keys.introduce_log(operations.vkey(key(f"log {version + 2}"))))
        kept.kept.append(kept.log.checkpoint(size=version))
    for name, case in (("policies", Case(policies)), ("key entries", Case(operations)), ("files in checkpoints", kept)):
        with pytest.raises(Malformed, match=name):
            case.audit(tmp_path / name)


def test_documents_beyond_those_remembered_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_KNOWN_DOCUMENTS", 1)
    log = short_log()
    for text in (b"one", b"two", b"one", b"two"):
        log.event(shown=log.document(text).hex())
    assert faults(Case(log).audit(tmp_path)) == []


# Openings as lines


def test_an_opening_comes_back_from_its_line() -> None:
    opening = Opening(7, b"\1" * 32, b'{"a":1}')
    line = encode_line(opening)
    assert line == b'{"seq":7,"salt":"' + encode_base64(b"\1" * 32).encode() + b'","payload":"eyJhIjoxfQ=="}\n'
    assert decode_line(line) == opening
    assert peek_seq(line) == 7


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"seq":7,"salt":"AA=="}',
        b'{"seq":"7","salt":"AA==","payload":"AA=="}',
        b'{"seq":7.0,"salt":"AA==","payload":"AA=="}',
        b'{"seq":true,"salt":"AA==","payload":"AA=="}',
        b'{"seq":-1,"salt":"AA==","payload":"AA=="}',
        b'{"seq":9007199254740992,"salt":"AA==","payload":"AA=="}',
        b'{"seq":7,"salt":"AB==","payload":"AA=="}',
        b'{"seq":7,"salt":"AA","payload":"AA=="}',
        b'{"seq":7,"salt":"AA==","payload":"AA==","payload":"AA=="}',
        b'{"seq":7,"salt":"AA==","payload":"AA==","note":1}',
        b'{"seq":7,"salt":"AA==","payload":"AA==","\\u0073eq":7}',
        b'{"seq":07,"salt":"AA==","payload":"AA=="}',
        b'{"seq":7,"salt":"AA==","payload":null}',
        b'{"seq":7,"salt":"\xff","payload":"AA=="}',
        b'{"seq":7,"salt":"AA==","payload":"AA=="}{}',
    ],
)
def test_an_opening_is_parsed_strictly(line: bytes) -> None:
    with pytest.raises(Malformed):
        decode_line(line)


def test_another_tools_spacing_and_order_of_members_are_fine() -> None:
    line = b' { "payload" : "eyJhIjoxfQ==",\r\t"salt":"AA==" , "seq": 7 }\r\n'
    assert decode_line(line) == Opening(7, b"\0", b'{"a":1}')
    assert peek_seq(line) == 7


def test_lines_are_split_at_the_seqs_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "payloads.ndjson"
    lines = {seq: encode_line(Opening(seq, b"", bytes(seq % 50))) for seq in range(0, 3000, 3)}
    path.write_bytes(b"".join(lines.values()).rstrip(b"\n"))
    found = Faults()
    with path.open("rb") as file:
        split = OpeningLines(file, found)
        for end in range(256, 3000 + 256, 256):
            assert split.take(end - 256, end) == b"".join(lines[seq] for seq in lines if end - 256 <= seq < end)
        split.finish(3000)
    assert not found


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "payloads.ndjson"
    path.write_bytes(encode_line(Opening(0, b"", b"")))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    found = Faults()
    with path.open("rb") as file:
        split = OpeningLines(file, found)
        assert decode_line(split.take(0, 10)).seq == 0
        split.finish(10)
    assert [fault.rule for fault in found.first()] == [1]
    assert MAX_LINE_BYTES < 1 << 20


# Uniqueness in 8 bytes a value


def test_a_repeated_fingerprint_is_suspected_and_a_whole_value_alone_is_a_repetition() -> None:
    run = b"random of this run"
    values = [seq.to_bytes(4, "big") for seq in range(5000)]
    seen = Fingerprints()
    seen.add(fingerprints(values, run))
    assert seen.suspects() == frozenset()
    seen.add(fingerprints([values[7], values[4000], values[7]], run))
    assert seen.suspects() == {fingerprints([values[7]], run), fingerprints([values[4000]], run)}

    recheck = Recheck(frozenset({fingerprints([values[7]], run)}), run)
    assert [recheck.earlier(value, seq) for seq, value in enumerate([values[7], values[8], values[8], values[7]])] == [
        *(None, None, None),
        0,
    ]


def test_a_collision_of_fingerprints_costs_a_second_look_and_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspects = Fingerprints.suspects
    everything: set[bytes] = set()

    def add(self: Fingerprints, joined: bytes) -> None:
        everything.update(joined[i : i + 8] for i in range(0, len(joined), 8))

    monkeypatch.setattr(Fingerprints, "add", add)
    monkeypatch.setattr(Fingerprints, "suspects", lambda self: frozenset(everything) | suspects(self))
    assert faults(Case(full_log(300)).audit(tmp_path)) == []
    assert len(everything) > 600


@given(st.binary(max_size=200))
def test_any_bytes_are_an_opening_or_malformed(line: bytes) -> None:
    for text in (line, b'{"seq":7,"salt":"AA==","payload":"AA=="' + line):
        try:
            opening = decode_line(text)
        except Malformed:
            continue
        assert peek_seq(text) == opening.seq
        assert decode_line(encode_line(opening)) == opening


def test_more_bytes_of_kept_checkpoints_than_an_auditor_holds_are_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle / "checkpoints").mkdir()
    for number in range(3):
        (bundle / f"checkpoints/{number}").write_bytes(bytes(1000))
    monkeypatch.setattr(walk, "MAX_KEPT_BYTES", 2500)
    with pytest.raises(Malformed, match="thin them out"):
        look(bundle)
