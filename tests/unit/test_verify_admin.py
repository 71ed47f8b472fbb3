"""`verify --admin`: an erasure that nobody ordered is found, and so is an administrative log that was written anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ledger.cli import main
from ledger.core import keys
from ledger.core.admin_act import ActName, AdminAct, encode_act
from ledger.core.encoding import encode_time
from ledger.core.entry import Kind, encode_seqs
from ledger.core.erasing import events_hash, evidence_of
from tests.logbuilder import ORIGIN, LogBuilder, key


class Pair:
    """A site's log with its administrative log."""

    def __init__(self) -> None:
        self.site, self.acts = LogBuilder(), LogBuilder(f"{ORIGIN}.admin-log")
        self.site.policy()
        self.site.events(8)

    def act(self, word: str, **details: str) -> str:
        """Record an act; how an erasure's record names it."""
        seq = len(self.acts.entries)
        told = AdminAct(
            *(f"01980000-0000-7000-8000-{seq:012x}", self.acts.site, word, "ada", "operator"),  # type: ignore[arg-type]
            *(encode_time(self.acts.now_ms), "admin.act"),  # type: ignore[arg-type]
            details=details,
        )
        self.acts.append_opened(Kind.EVENT, encode_act(told))
        return str(ActName(self.acts.site, seq, self.acts.leaves[seq]))

    def order(self, *seqs: int, **executed: str) -> tuple[str, str]:
        """An order and its act, for these events; the act's name, and the evidence."""
        erasure = f"01980000-0000-4000-8000-{len(self.acts.entries):012x}"
        asked = sha256(erasure.encode())
        told = {"reason": "subject_request", "evidence": evidence_of([asked.digest()])}
        self.act("erasure.ordered", **(told | {"evidence": asked.hexdigest()}), erasure=erasure, level="erase")
        told |= {"erasures": erasure, "events": events_hash(seqs), "count": str(len(seqs))}
        return self.act("erasure.executed", **(told | executed)), told["evidence"]

    def erase(self, *seqs: int, name: str, evidence: str) -> int:
        """What the ledger does, and what whoever has the database and an ingest key can do."""
        for seq in seqs:
            self.site.openings.pop(seq)
        record = self.site.record(evidence=evidence, instruction=name)
        return self.site.append_opened(Kind.ERASURE, record, encode_seqs(seqs))

    def verify(self, place: Path, *more: str, acts: LogBuilder | None = None) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON report, the two bundles being exported anew."""
        site, admin = self.site.write(place / "site"), (acts or self.acts).write(place / "admin")
        arguments = ["--log-vkey", str(self.site.log_vkey), "--admin", str(admin), "--json", "--processes", "1"]
        done = CliRunner().invoke(main, ["verify", str(site), *arguments, *more])
        return done.exit_code, json.loads(done.stdout) if done.exit_code in (0, 1) else {"error": done.stderr}


def erased() -> Pair:
    """Two events erased as ordered, and acts after that."""
    pair = Pair()
    name, evidence = pair.order(2, 3)
    pair.erase(2, 3, name=name, evidence=evidence)
    pair.act("backup.made")
    return pair


def rotate(log: LogBuilder) -> None:
    """Another log key from now on; the first retires."""
    new = key("log 2")
    log.key_entry(keys.introduce_log(log.vkey(new)))
    log.key_entry(keys.retire_log(log.log_vkey))
    log.log = new


def test_the_key_of_the_administrative_log_need_not_be_known_also_after_a_rotation(tmp_path: Path) -> None:
    pair = erased()
    old, first = pair.acts.checkpoint(), str(pair.acts.log_vkey)
    rotate(pair.acts)
    code, report = pair.verify(tmp_path)
    told = report["admin"]
    assert (code, told["matched"], told["mismatchCount"], told["bound"]) == (0, 1, 0, 3)
    assert (told["log"]["rootKey"], told["log"].get("notes")) == ("bound", None)
    (tmp_path / "old").write_bytes(old.encode())
    for pinned in (
        ("--admin-vkey", str(pair.acts.log_vkey), "--admin-log-id", pair.acts.log_id.hex()),
        ("--admin-vkey", first, "--admin-old", str(tmp_path / "old")),
        ("--admin-old", str(tmp_path / "old")),
    ):
        code, report = pair.verify(tmp_path, *pinned)
        assert (code, report["admin"]["log"]["rootKey"]) == (0, "pinned")
    for wrong in (("--admin-vkey", first), ("--admin-log-id", "00" * 32)):
        code, report = pair.verify(tmp_path, *wrong)
        assert (code, {fault["rule"] for fault in report["admin"]["log"]["faults"]}) == (1, {4})
    assert pair.verify(tmp_path, "--admin-vkey", "none")[1]["error"].startswith("could not run: --admin-vkey:")


def test_before_anything_was_erased_the_administrative_log_vouches_for_itself_and_is_told_of(tmp_path: Path) -> None:
    pair = Pair()
    pair.act("backup.made")
    code, report = pair.verify(tmp_path)
    assert (code, report["admin"]["bound"], report["admin"]["log"]["rootKey"]) == (0, 0, "asserted")
    assert "asserted by the log itself" in report["admin"]["log"]["notes"][0]["detail"]


def awkward(pair: Pair, name: str, evidence: str = "cd" * 32) -> None:
    pair.erase(7, name=name, evidence=evidence)


def forged(pair: Pair) -> None:
    awkward(pair, str(ActName(pair.acts.site, 4, bytes(32))))


def under_an_act_without_an_order(pair: Pair) -> None:
    told = {"reason": "subject_request", "evidence": "cd" * 32, "events": events_hash([7]), "count": "1"}
    awkward(pair, pair.act("erasure.executed", **told))


def under_an_act_that_was_used(pair: Pair) -> None:
    first = pair.site.openings[len(pair.site.entries) - 1][1]
    record = json.loads(first)
    awkward(pair, record["instruction"], record["evidence"])


def under_an_act_about_other_events(pair: Pair) -> None:
    awkward(pair, *pair.order(6))


def under_an_act_that_came_after_it(pair: Pair) -> None:
    awkward(pair, str(ActName(pair.acts.site, len(pair.acts.entries) + 1, bytes(32))))
    pair.order(7)


def under_an_act_that_was_cut_off(pair: Pair) -> None:
    awkward(pair, *pair.order(7))
    del pair.acts.entries[-1:], pair.acts.leaves[-1:]
    del pair.acts.openings[len(pair.acts.entries)]


def under_an_act_that_was_erased(pair: Pair) -> None:
    name, evidence = pair.order(7)
    awkward(pair, name, evidence)
    seq = len(pair.acts.entries) - 1
    told = {"reason": "retention", "evidence": "ef" * 32, "events": events_hash([seq]), "count": "1"}
    run = pair.act("retention.run", **told)
    del pair.acts.openings[seq]
    record = pair.acts.record(reason="retention", evidence="ef" * 32, instruction=run)
    pair.acts.append_opened(Kind.ERASURE, record, encode_seqs([seq]))


def under_acts_that_were_written_anew(pair: Pair) -> None:
    """All keys are the operator's, and nobody kept a checkpoint of this log."""
    pair.acts = LogBuilder(pair.acts.origin)
    pair.order(2, 3, people="2")


@pytest.mark.parametrize(
    ("what", "attack"),
    [
        ("orphan", forged),
        ("not_ordered", under_an_act_without_an_order),
        ("act_used", under_an_act_that_was_used),
        ("events_differ", under_an_act_about_other_events),
        ("another_act", under_an_act_that_came_after_it),
        ("orphan", under_an_act_that_was_cut_off),
        ("act_erased", under_an_act_that_was_erased),
        ("another_act", under_acts_that_were_written_anew),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_an_event_erased_by_who_has_the_database_is_found(
    tmp_path: Path, what: str, attack: Callable[[Pair], None]
) -> None:
    pair = erased()
    attack(pair)
    code, report = pair.verify(tmp_path)
    assert (code, report["verdict"], report["admin"]["log"]["verdict"]) == (1, "sound", "sound"), report
    assert [each["what"] for each in report["admin"]["mismatches"]] == [what]


def test_an_older_bundle_beside_a_newer_one_is_told_of_as_such(tmp_path: Path) -> None:
    pair = erased()
    older = erased()
    name, evidence = pair.order(7)
    pair.erase(7, name=name, evidence=evidence)
    code, report = pair.verify(tmp_path / "older acts", acts=older.acts)
    (mismatch,) = report["admin"]["mismatches"]
    assert (code, mismatch["what"]) == (1, "orphan")
    assert "export it again" in mismatch["detail"]
    code, report = older.verify(tmp_path / "newer acts", acts=pair.acts)
    assert (code, [each["act"] for each in report["admin"]["pending"]]) == (0, ["erasure.ordered", "erasure.executed"])


def test_an_operator_who_orders_an_erasure_leaves_the_order_on_record(tmp_path: Path) -> None:
    pair = erased()
    awkward(pair, *pair.order(7))
    code, report = pair.verify(tmp_path / "kept")
    assert (code, report["admin"]["matched"], report["admin"]["bound"]) == (0, 2, 6)
    without = erased()
    code, report = pair.verify(tmp_path / "taken away", acts=without.acts)
    assert (code, report["admin"]["matched"], report["admin"]["mismatchCount"]) == (1, 1, 1)
