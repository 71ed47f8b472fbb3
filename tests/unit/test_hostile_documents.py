"""Hostile site documents are refused in little time and memory, whichever parser of YAML is there."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import yaml

from ledger.core import source
from ledger.core.errors import DocumentInvalid
from ledger.core.policy import MAX_DOCUMENT_BYTES, parse_site_document
from ledger.core.source import line_of
from tests.documents import SMALL, encoded
from tests.hostile import HOSTILE, YAML, Hostile

PEAK_MAX_BYTES = 24 * 1024 * 1024
CPU_MAX_SECONDS = 20
"""Of this process, so that a busy machine does not count; what is slowest takes a hundredth with libyaml."""
LOADERS = (source._LOADER, yaml.SafeLoader)


@pytest.mark.parametrize("loader", LOADERS, ids=["libyaml", "python"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=[one.name for one in HOSTILE])
def test_it_is_refused_within_bounds(
    hostile: Hostile, loader: type[yaml.SafeLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_LOADER", loader)
    data = hostile.make()
    began = time.process_time()
    with pytest.raises(DocumentInvalid) as caught:
        parse_site_document(data)
    assert time.process_time() - began < CPU_MAX_SECONDS
    error = caught.value
    assert hostile.says in error.detail
    assert max(len(error.path), len(error.pointer)) < 1_500
    assert len(str(error)) < 2_500
    assert all(text.encode() and text.isprintable() for text in (error.path or "-", error.pointer or "-"))
    assert all(character.isprintable() for character in error.detail)


@pytest.mark.parametrize("hostile", HOSTILE, ids=[one.name for one in HOSTILE])
def test_it_takes_little_memory(hostile: Hostile) -> None:
    data = hostile.make()
    tracemalloc.start()
    try:
        with pytest.raises(DocumentInvalid) as caught:
            parse_site_document(data)
        line_of(data, caught.value.place)
        assert tracemalloc.get_traced_memory()[1] < PEAK_MAX_BYTES
    finally:
        tracemalloc.stop()


def test_what_it_is_made_from_is_sound() -> None:
    assert parse_site_document(YAML.encode()) == parse_site_document(encoded(SMALL))


def test_the_largest_document_allowed_is_read() -> None:
    padded = YAML.encode() + b"#" * (MAX_DOCUMENT_BYTES - len(YAML))
    assert parse_site_document(padded).site == "shop.example"
    with pytest.raises(DocumentInvalid, match="256 KiB"):
        parse_site_document(padded + b"#")
