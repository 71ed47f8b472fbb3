"""A bundle in a tar is judged as in its directory; a hostile tar is a clear refusal, and nothing of it is unpacked."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tar as tars
from ledger.bundle import Directory
from ledger.core.errors import LedgerError, Malformed
from ledger.core.heads import Pins
from ledger.tar import Tar, pack
from ledger.verify import Report, verify
from tests.logbuilder import LogBuilder, full_log

LOG = full_log(600)
PINS = Pins(LOG.log_vkey, LOG.log_id)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return LOG.write(tmp_path_factory.mktemp("tar") / "bundle", kept=[LOG.checkpoint(5), LOG.checkpoint(300)])


def packed(bundle: Path, *, compress: bool = False) -> bytes:
    file = io.BytesIO()
    pack(bundle, file, compress=compress)
    return file.getvalue()


def look(data: bytes, tmp_path: Path) -> Report:
    (tmp_path / "file.tar").write_bytes(data)
    with Tar((tmp_path / "file.tar").open("rb")) as tar:
        return verify(tar, PINS, processes=1)


def same(one: Report, other: Report) -> bool:
    return one.encode().partition(b'"origin"')[2] == other.encode().partition(b'"origin"')[2]


@pytest.mark.parametrize("compress", [False, True])
def test_a_packed_bundle_is_as_sound_as_its_directory(bundle: Path, tmp_path: Path, compress: bool) -> None:
    report = look(packed(bundle, compress=compress), tmp_path)
    assert report.verdict == "sound"
    assert same(report, verify(Directory(bundle), PINS, processes=1))


def test_the_same_bundle_gives_the_same_tar(bundle: Path) -> None:
    assert packed(bundle) == packed(bundle)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-C", "{bundle}", "."],
        ["--format=ustar", "-C", "{bundle}", "."],
        ["--format=pax", "-C", "{bundle}", "."],
        ["--format=gnu", "-C", "{parent}", "bundle"],
        ["--format=pax", "--transform", "s,^bundle,a-very-long-name-" + "x" * 150 + ",", "-C", "{parent}", "bundle"],
        ["--format=gnu", "--transform", "s,^bundle,a-very-long-name-" + "x" * 150 + ",", "-C", "{parent}", "bundle"],
        ["-z", "-C", "{parent}", "bundle"],
    ],
)
def test_what_the_tar_command_makes_is_read(bundle: Path, tmp_path: Path, arguments: list[str]) -> None:
    given = [one.format(bundle=bundle, parent=bundle.parent) for one in arguments]
    made = subprocess.run(["tar", "-c", *given], capture_output=True, check=True).stdout
    assert look(made, tmp_path).verdict == "sound"


@pytest.mark.parametrize("compress", [False, True])
def test_a_tar_is_read_from_a_pipe(bundle: Path, compress: bool) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        with os.fdopen(write, "wb") as file:
            pack(bundle, file, compress=compress)
        os._exit(0)
    os.close(write)
    with Tar(os.fdopen(read, "rb")) as tar:
        assert verify(tar, PINS, processes=1).verdict == "sound"
    os.waitpid(child, 0)


def test_a_changed_byte_is_found(bundle: Path, tmp_path: Path) -> None:
    data = packed(bundle)
    at = data.index(LOG.entries[300]) + 120
    report = look(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], tmp_path)
    assert (report.faults[0].rule, report.exit_code) == (2, 1)


# --- hostile ----------------------------------------------------------------------------------------------------------


def with_member(bundle: Path, name: str, content: bytes = b"", **fields: object) -> bytes:
    """The bundle without its own file of that name, and then with this one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(bundle.rglob("*")):
            if path.is_file() and path.relative_to(bundle).as_posix() != name:
                tar.add(path, path.relative_to(bundle).as_posix())
        info = tarfile.TarInfo(name)
        info.size = len(content)
        for field, value in fields.items():
            setattr(info, field, value)
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "rule"), [("checkpoint", 1), ("tile/entries/000", 1), ("tile/0/000", 2), ("payloads.ndjson", 1)]
)
@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_what_is_no_file_in_a_tar_is_a_fault(bundle: Path, tmp_path: Path, name: str, rule: int, kind: bytes) -> None:
    report = look(with_member(bundle, name, type=kind, linkname="/etc/passwd"), tmp_path)
    assert report.verdict == "fault"
    assert report.faults[0].rule == rule


def test_links_folders_and_paths_that_lead_out_are_names_like_others(bundle: Path, tmp_path: Path) -> None:
    for name in ("../outside", "/etc/passwd", "tile/../../x"):
        assert look(with_member(bundle, name, b"x"), tmp_path).verdict == "sound"
    assert look(with_member(bundle, "folder", type=tarfile.DIRTYPE), tmp_path).verdict == "sound"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.tar"]


def test_a_file_that_is_there_twice_is_refused(bundle: Path, tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for _ in range(2):
            tar.add(bundle / "checkpoint", "checkpoint")
    with pytest.raises(Malformed, match="twice"):
        look(file.getvalue(), tmp_path)


def test_a_file_beyond_its_bound_is_not_read(bundle: Path, tmp_path: Path) -> None:
    report = look(with_member(bundle, "checkpoint", bytes(10_000_000)), tmp_path)
    assert "larger than" in report.faults[0].detail
    report = look(with_member(bundle, "payloads.ndjson", b"x" * 10_000_000), tmp_path)
    assert "a line is longer" in report.faults[0].detail


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    made = bytearray(512)
    made[: len(name)] = name
    made[124 : 124 + len(size)] = size
    made[156:157] = kind
    made[148:156] = b"%06o\0 " % (sum(made) + 8 * 32)
    return bytes(made)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"no tar at all" * 100, "no tar"),
        (b"short", "no tar"),
        (header(b"a", b"00000001000\0"), "cut short"),
        (header(b"a", b"\xff" * 12), "number"),
        (header(b"a", b"\x80" + b"\0" * 3 + b"\x3f" + b"\xff" * 7), "cut short"),
        (header(b"a", b"99999999999\0"), "no tar"),
        (header(b"x", b"77777777777\0", b"x") + bytes(4096), "cut short"),
        (header(b"x", b"00001000000\0", b"x") + bytes(1 << 18), "more than"),
        (header(b"x", b"00001000000\0", b"L") + bytes(1 << 18), "more than"),
        (header(b"x", b"00000000012\0", b"x") + b"99 size=1\n".ljust(512, b"\0"), "pax"),
        (header(b"x", b"00000000012\0", b"x") + b"0 size=12\n".ljust(512, b"\0"), "pax"),
        (header(b"x", b"00000000012\0", b"x") + b"10 size=x\n".ljust(512, b"\0"), "size"),
        (header(b"x", b"00000000026\0", b"x") + b"22 GNU.sparse.major=1\n".ljust(512, b"\0"), "sparse"),
        (b"\x1f\x8b" + b"x" * 100, "gzip"),
        (gzip.compress(bytes(200 << 20), 9), "unpacks to more"),
        (gzip.compress(b"x" * 2000)[:-20] + b"y" * 30, "gzip"),
    ],
    ids=range(17),
)
def test_a_damaged_or_hostile_tar_is_refused_with_the_reason(data: bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=why):
        look(data, tmp_path)


def test_a_tar_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars, "TAR_MAX_MEMBERS", 10)
    data = b"".join(header(b"%d" % number, b"0") for number in range(11))
    with pytest.raises(Malformed, match="more than 10 files"):
        look(data, tmp_path)


@given(st.data())
def test_a_tar_changed_anywhere_is_judged_or_refused_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    small = LogBuilder()
    small.policy()
    small.events(3)
    place = tmp_path_factory.mktemp("fuzz")
    whole = bytearray(packed(small.write(place / "bundle")))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=12))
    (place / "file").write_bytes(whole)
    try:
        with Tar((place / "file").open("rb")) as tar:
            verify(tar, Pins(small.log_vkey), processes=1)
    except LedgerError:
        pass


def test_gzip_of_several_parts_is_one_tar(bundle: Path, tmp_path: Path) -> None:
    data = packed(bundle)
    parts = gzip.compress(data[:5000]) + gzip.compress(data[5000:]) + bytes(512)
    assert look(parts, tmp_path).verdict == "sound"
    assert zlib.decompressobj(wbits=31).decompress(parts) == data[:5000]
