"""Every member of a site document is read, and what is wrong in one is told with its place and what would be right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.core.document import NEVER_AGAIN, Notice, Recipient, encode_document
from ledger.core.errors import DocumentInvalid
from ledger.core.policy import decode_document, parse_site_document
from tests.documents import FULL, MALFORMED, SMALL, Malformed, changed, encoded


def refusal(document: dict[str, Any]) -> DocumentInvalid:
    with pytest.raises(DocumentInvalid) as caught:
        parse_site_document(encoded(document))
    return caught.value


class TestEveryMember:
    def test_comes_back_from_the_published_form_but_for_the_schema_s_address(self) -> None:
        published = json.loads(encode_document(parse_site_document(encoded(FULL))))
        # What is at its default is left out; the rest is what was written.
        written = changed(FULL)
        del written["$schema"], written["purposes"]["statistics"]["inUse"]
        assert published == written
        assert decode_document(encode_document(parse_site_document(encoded(FULL)))) == parse_site_document(
            encoded(FULL)
        )

    def test_of_the_model_is_in_the_full_document(self) -> None:
        document = parse_site_document(encoded(FULL))
        left = {name for name in document.__struct_fields__ if not getattr(document, name)}
        used = {name for purpose in document.purposes.values() for name in purpose.__struct_fields__
                if name in ("inUse", "withdrawable") or getattr(purpose, name)}  # fmt: skip
        assert left == set()
        assert used == set(next(iter(document.purposes.values())).__struct_fields__)

    def test_a_legal_basis_in_one_word_holds_everywhere(self) -> None:
        document = parse_site_document(encoded(changed(SMALL, ("purposes/analytics/legalBasis", "consent"))))
        assert document.purposes["analytics"].legal_basis == {"default": "consent"}

    def test_its_parts_are_what_was_written(self) -> None:
        document = parse_site_document(encoded(FULL))
        statistics = document.purposes["statistics"]
        assert statistics.recipients == (
            Recipient(name="Counter Inc.", role="controller", region="US", transfer="contractual_clauses"),
            Recipient(name="Host AG", region="EU"),
        )
        assert not statistics.cookies[0].clear_on_withdrawal
        assert statistics.cookies[1].clear_on_withdrawal
        assert document.purposes["age"].minimum_age == {"default": 16, "KZ": 18}
        assert document.notices["banner-ru"] == Notice(document="ef" * 32, media_type="image/png", language="ru")
        assert document.reask_after_in["EU"].refusal == "P6M"
        assert document.purposes["credit"].withdrawal_bar["kk"] == "Төленгенге дейін."

    def test_a_purpose_that_says_never_again_is_not_one_that_says_nothing(self) -> None:
        document = parse_site_document(encoded(changed(SMALL, ("purposes/analytics/reaskAfter", {}))))
        assert document.purposes["analytics"].reask_after == NEVER_AGAIN
        assert decode_document(encode_document(document)).purposes["analytics"].reask_after == NEVER_AGAIN
        assert parse_site_document(encoded(SMALL)).purposes["analytics"].reask_after is None

    def test_aliases_may_follow_one_another(self) -> None:
        gone = {"title": {"en": "x"}, "description": {"en": "x"}, "removedIn": "0.9"}
        document = changed(
            SMALL,
            ("purposes/analytics/aliasOf", "counting"),
            ("purposes/counting", {**gone, "aliasOf": "stats"}),
            ("purposes/stats", gone),
        )
        assert parse_site_document(encoded(document)).purposes["counting"].alias_of == "stats"

    def test_a_removed_purpose_may_still_name_a_removed_attestation(self) -> None:
        document = changed(FULL, ("purposes/age/removedIn", "2.0"), ("purposes/marketing/removedIn", "2.0"))
        assert parse_site_document(encoded(document)).purposes["marketing"].needs == ("age",)


class TestErrors:
    @pytest.mark.parametrize("malformed", MALFORMED, ids=[f"{m.path}: {m.says}" for m in MALFORMED])
    def test_name_the_place_and_what_would_be_right(self, malformed: Malformed) -> None:
        error = refusal(changed(FULL, *malformed.changes))
        assert error.path == malformed.path
        assert malformed.says in error.detail

    @pytest.mark.parametrize(
        ("changes", "pointer", "path"),
        [
            (("purposes/analytics/cookies", [{"name": "a", "duration": "x"}]),
             "/purposes/analytics/cookies/0/duration", "purposes.analytics.cookies[0].duration"),
            (("purposes/shop.cart:v1", {"title": 1}), "/purposes/shop.cart:v1/title", "purposes.shop.cart:v1.title"),
            (("regimes", {"a/b~c": "opt-in"}), "/regimes/a~1b~0c", "regimes.a/b~c"),
            (("purposes/7", {}), "/purposes/7/title", "purposes.7.title"),
        ],
    )  # fmt: skip
    def test_point_as_rfc_6901_says_whatever_the_names_hold(self, changes: Any, pointer: str, path: str) -> None:
        error = refusal(changed(SMALL, changes))
        assert (error.pointer, error.path) == (pointer, path)
        assert str(error).startswith(f"{path}: ")

    def test_of_the_whole_document_point_at_it(self) -> None:
        with pytest.raises(DocumentInvalid) as caught:
            parse_site_document(b"[1]")
        assert (caught.value.pointer, caught.value.path) == ("", "")
        assert str(caught.value) == caught.value.detail
