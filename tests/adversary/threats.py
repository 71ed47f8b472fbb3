"""The threat table of proto/SPEC.md, made of the attacks and of what is shown elsewhere than by `verify` of a bundle.

`python -m tests.adversary.threats` prints it, to be put into the specification where a row has changed.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.adversary.attacks import ATTACKS, INGEST, LOG, OPERATOR, SUPERUSER, THIEF


class Threat(NamedTuple):
    """One row. `test` is the name of an attack (a parameter of test_attacks.py) or of a test of its own."""

    what: str
    who: str
    found_by: str
    test: str

    def row(self) -> str:
        return f"| {self.what} | {self.who} | {self.found_by} | `{self.test}` |"


HEAD = "| attack | who can do it | what finds it | test |\n|---|---|---|---|"

ELSEWHERE = (
    Threat(
        "what others signed dropped, reordered or re-timed in a log that is sound in itself",
        LOG,
        "a witness: it refuses to cosign, and keeps both checkpoints",
        "test_a_rewritten_log_gets_no_cosignature_however_far_it_grows",
    ),
    Threat(
        "a server that lies differently to each reader",
        OPERATOR,
        "a monitor that is given both views: two signed heads, kept as evidence",
        "test_a_monitor_finds_a_server_that_lies_differently_to_each_reader",
    ),
    Threat(
        "a log rewritten since a monitor was there last",
        f"{OPERATOR}; {THIEF}",
        "the monitor: two signed heads where the log is as long, an alarm where it is shorter",
        "test_a_monitor_that_was_here_before_finds_a_log_that_was_rewritten",
    ),
    Threat(
        "a stored log that breaks a rule, under an honest checkpointer",
        SUPERUSER,
        "the checkpointer: it signs nothing over it",
        "test_it_does_not_sign_what_breaks_a_rule",
    ),
    Threat(
        "Postgres, or NATS, or both put back to an older copy",
        "an operator's mistake",
        "the checkpointer: anchor, NATS and witnesses know more; it signs nothing, and nothing is appended",
        "test_both_put_back_leaves_a_newer_postgres_or_a_log_begun_anew",
    ),
    Threat(
        "the stream altered before lost entries are brought back from it",
        "who may write to NATS",
        "`recover`: the root that was signed; it takes nothing",
        "test_a_stream_that_was_reordered_is_refused_by_the_checkpoint_and_nothing_is_appended",
    ),
    Threat(
        "a signed checkpoint replaced in the database",
        "thief of the service's login",
        "the database function, which adds cosignatures and changes nothing else",
        "test_the_services_login_adds_cosignatures_and_replaces_no_checkpoint",
    ),
    Threat(
        "a log stopped by refusing what continues it",
        "a rogue witness",
        "the checkpoint that the witness itself shows: an alarm, and signing goes on",
        "test_a_witness_that_refuses_what_continues_its_own_checkpoint_is_an_alarm_and_stops_nothing",
    ),
    Threat(
        "a row edited from which answers are given: a visitor's state, a policy, a signer",
        SUPERUSER,
        "`verify --live`, which makes every such row anew from the log",
        "test_an_edited_row_is_found_and_named_without_a_visitor",
    ),
    Threat(
        "an awkward withdrawal erased by who runs the database, with a record of his own making",
        INGEST,
        "`verify --admin`: no act of the administrative log ordered it; and the receipt that its visitor kept",
        "test_an_operator_who_erases_a_withdrawal_through_the_database_is_found",
    ),
    Threat(
        "such an erasure beside an administrative log that was made up or written anew for it",
        OPERATOR,
        "`verify --admin`: what the site's log erased names other acts, by their hashes",
        "test_an_event_erased_by_who_has_the_database_is_found",
    ),
    Threat(
        "an order to erase recorded by who holds all keys, before the deed",
        OPERATOR,
        "nothing but the receipt; the administrative log says who ordered what and when, for the controller to read",
        "test_an_operator_who_orders_an_erasure_leaves_the_order_on_record",
    ),
    Threat(
        "the erased looked for in pages, indexes and WAL of the database, in the stream, logs, dumps and new backups",
        "whoever gets hold of the machine",
        "nothing, and nothing of them is there any more once tables were written anew (`scrub`)",
        "test_of_a_hundred_erased_no_byte_is_left_and_of_nine_hundred_none_is_missing",
    ),
    Threat(
        "a history of one's own shown to who has never seen the log, and was given its vkey alone",
        f"{OPERATOR}; {THIEF}",
        "nothing; the report says that the root key was asserted by the log itself",
        "test_who_brings_the_logs_key_alone_cannot_tell_and_is_told_so",
    ),
    Threat(
        "a broken log that the auditor has accepted before",
        OPERATOR,
        "rule 13: rules 5, 8, 9, 11 and 12 are judged anew each time",
        "test_rule_13_what_an_older_checkpoint_covers_is_excused_from_signatures_and_nothing_else",
    ),
    Threat(
        "all payloads withheld",
        OPERATOR,
        "rule 14: the verdict is \"log only\"",
        "test_rule_14_payloads_withheld_make_no_sound_log",
    ),
)  # fmt: skip


def threats() -> list[Threat]:
    return [Threat(one.what, one.who, one.found_by, one.name) for one in ATTACKS.values()] + list(ELSEWHERE)


if __name__ == "__main__":
    print(HEAD)
    print("\n".join(threat.row() for threat in threats()))
