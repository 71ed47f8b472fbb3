"""The clauses about running the ledger, and the tests that show each: none of them can be read off a document."""

from __future__ import annotations

SHOWN = {
    "D0": (
        "contract/test_events.py::test_sites_are_kept_apart",
        "e2e/test_vault.py::test_a_row_that_was_tampered_with_is_refused_and_the_others_are_read",
        "contract/test_administration.py::test_the_administrative_log_is_read_like_a_log_and_is_no_site",
    ),
    "D1": (
        "e2e/test_administration.py::test_what_cannot_be_put_on_record_is_not_done",
        "e2e/test_administration.py::test_the_command_line_puts_its_acts_on_record_and_shows_them",
        "contract/test_administration.py::test_publishing_over_http_is_on_record_before_it_is_done",
    ),
    "D3": (
        "e2e/test_certificates.py::test_a_whole_site_leaves_as_a_tar_that_verifies",
        "fault/test_retention.py::test_a_closed_site_records_nothing_more_and_keeps_what_law_keeps",
    ),
    "D4": (
        "unit/test_sealing.py::test_no_byte_of_them_can_be_altered_and_none_left_out_or_added",
        "e2e/test_vault.py::test_no_row_of_the_database_holds_a_visitor_an_account_or_a_payload",
        "fault/test_master_rotation.py::test_it_is_replaced_twice_under_load_and_nobody_notices",
    ),
    "D6": (
        "contract/test_downloads.py::test_a_link_that_is_a_minute_old_never_works_again",
        "contract/test_downloads.py::test_of_fifty_who_race_with_one_link_one_gets_the_file",
    ),
    "D7": (
        "e2e/test_administration.py::test_an_operator_who_erases_a_withdrawal_through_the_database_is_found",
        "e2e/test_administration.py::test_acts_are_forgotten_after_their_term_and_those_on_which_erasures_rest_stay",
        "contract/test_administration.py"
        "::test_the_address_on_record_is_that_of_the_caller_past_our_own_proxies_and_no_others",
    ),
    "D8": (
        "e2e/test_backup.py::test_with_the_stream_the_log_is_what_it_was_and_the_ten_are_gone",
        "e2e/test_backup.py::test_a_damaged_backup_or_keyring_is_refused_before_anything_is_touched",
        "e2e/test_backup_runbook.py",
    ),
    "D13": (
        "e2e/test_requests.py::test_the_controller_is_told_until_it_takes_it_and_can_tell_that_it_is_ours",
        "contract/test_requests.py::test_a_visitor_gets_what_is_held_once_the_controller_instructed",
        "e2e/test_requests_runbook.py",
    ),
    "N5": (
        "unit/test_retention.py::test_runs_by_the_calendar_from_the_choice_on",
        "fault/test_retention.py::test_what_is_due_goes_with_its_marks_and_nothing_else",
    ),
    "N9": (
        "e2e/test_erasure_drill.py::test_of_a_hundred_erased_no_byte_is_left_and_of_nine_hundred_none_is_missing",
        "contract/test_records.py::test_no_log_line_holds_a_visitor",
        "e2e/test_no_address.py::test_no_address_is_kept_logged_counted_or_published",
    ),
}
