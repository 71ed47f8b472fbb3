"""Notice artefacts: what is one, where another is wrong, and what else may be kept beside them."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.errors import DocumentInvalid
from ledger.core.notice import check_notice, media_type_of, pictures_of, read_notice
from ledger.core.policy import documents_named_in

WHOLE: dict[str, Any] = {
    "format": "consent-notice/1",
    "texts": {
        "en": {
            "title": "Cookies",
            "body": ["We count visits.", "You may refuse."],
            "labels": {"accept_all": "Yes", "only_necessary": "No"},
            "purposes": {"analytics": "Counting"},
            "links": [{"text": "Policy", "url": "https://shop.example/policy"}],
        },
        "ru": {"title": "Файлы cookie", "labels": {"accept_all": "Да", "only_necessary": "Нет"}},
    },
    "layout": {"form": "banner", "position": "bottom", "refusing": "equal", "description": "12 px"},
    "defaults": {"analytics": "denied"},
    "screenshots": [{"document": "ab" * 32, "language": "en"}],
}


def changed(place: str, value: Any) -> bytes:
    """The whole notice with another value at a place like `texts.en.title`; None takes it away."""
    notice = copy.deepcopy(WHOLE)
    *way, last = (int(step) if step.isdigit() else step for step in place.split("."))
    part: Any = notice
    for step in way:
        part = part[step]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return json.dumps(notice).encode()


def test_a_notice_is_read_whole() -> None:
    notice = read_notice(json.dumps(WHOLE).encode())
    assert notice.texts["ru"].title == "Файлы cookie"
    assert notice.texts["en"].labels["only_necessary"] == "No"
    assert notice.layout.refusing == "equal"
    assert pictures_of(json.dumps(WHOLE).encode()) == ("ab" * 32,)


@pytest.mark.parametrize(
    ("place", "value", "where"),
    [
        ("format", None, "format"),
        ("format", "consent-notice/2", "format"),
        ("texts", {}, "texts"),
        ("texts", {"x" * 9: WHOLE["texts"]["en"]}, f"texts.{'x' * 9}"),
        ("texts.en.title", None, "texts.en.title"),
        ("texts.en.title", "two\nlines", "texts.en.title"),
        ("texts.en.title", True, "texts.en.title"),
        ("texts.en.body.0", "x" * 2_001, "texts.en.body[0]"),
        ("texts.en.body", ["x"] * 2, "texts.en.body[1]"),
        ("texts.en.body", [str(n) for n in range(51)], "texts.en.body"),
        ("texts.en.labels", {}, "texts.en.labels"),
        ("texts.en.labels.agree", "Yes", "texts.en.labels.agree"),
        ("texts.en.links.0.url", "javascript:alert(1)", "texts.en.links[0].url"),
        ("texts.en.links.0.url", "http://shop.example", "texts.en.links[0].url"),
        ("layout.form", "popup", "layout.form"),
        ("layout.refusing", None, "layout.refusing"),
        ("layout.zoom", "2", "layout.zoom"),
        ("defaults.analytics", "on", "defaults.analytics"),
        ("screenshots.0.document", "AB" * 32, "screenshots[0].document"),
        ("surprise", "x", "surprise"),
        ("layout.description", 12, "layout.description"),
    ],
)
def test_a_notice_that_is_wrong_is_refused_with_its_place(place: str, value: Any, where: str) -> None:
    with pytest.raises(DocumentInvalid) as caught:
        read_notice(changed(place, value))
    assert caught.value.path == where


@pytest.mark.parametrize("data", [b"", b"[]", b"format: consent-notice/1", b'{"a":1,"a":1}', b"{" * 5_000, b"\xff{}"])
def test_what_is_no_object_in_json_is_no_notice(data: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        read_notice(data)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (json.dumps(WHOLE).encode(), "application/json"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("Условия использования".encode(), "text/plain"),
        (b"<svg onload=alert(1)>", "text/plain"),
    ],
)
def test_bytes_are_kept_under_the_one_type_that_they_can_have(data: bytes, media_type: str) -> None:
    assert media_type_of(data) == media_type


@pytest.mark.parametrize("data", [b"", b" \n", b"a\x00b", b"\x89PNG", b"GIF89a\xff", b"{}", b"x" * (256 * 1024 + 1)])
def test_bytes_of_no_type_that_is_kept_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        media_type_of(data)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: ("{" + text).encode("utf-8", "surrogatepass")))
def test_hostile_bytes_raise_only_our_own_error(data: bytes) -> None:
    documents_named_in(data)
    with contextlib.suppress(DocumentInvalid):
        media_type_of(data)


@pytest.mark.parametrize(
    ("languages", "purposes", "place"),
    [
        (("kk",), ("analytics",), "texts.kk"),
        (("en",), (), "defaults.analytics"),
        (("en",), ("necessary",), "defaults.analytics"),
    ],
)
def test_a_notice_fits_the_document_that_names_it(
    languages: tuple[str, ...], purposes: tuple[str, ...], place: str
) -> None:
    notice = read_notice(json.dumps(WHOLE).encode())
    check_notice(notice, ("en", "ru"), ("analytics", "necessary"))
    with pytest.raises(DocumentInvalid) as caught:
        check_notice(notice, languages, purposes)
    assert caught.value.path == place
