"""How a message goes over the wire to NATS."""

import pytest
from nats.aio.client import Client
from nats.protocol import command

from ledger.bus import _framed
from ledger.core.stream import Message

HEADERS = (("ce-id", "site.example:7"), ("ce-entry", "AAEC/+=="), ("Nats-Batch-Id", "ab" * 16))


async def written_by_the_client(message: Message, reply: str) -> bytes:
    client = Client()
    client._max_pending_size = 0  # no connection: what is sent stays where it is gathered
    await client._send_publish(message.subject, reply, message.data, len(message.data), dict(message.headers) or None)
    return b"".join(client._pending)


@pytest.mark.parametrize("reply", ["", "_INBOX.a.1"])
@pytest.mark.parametrize("headers", [(), HEADERS])
async def test_a_message_is_framed_as_the_client_frames_it(headers: tuple[tuple[str, str], ...], reply: str) -> None:
    message = Message("consent.v1.site_example.given", headers, '{"visitor":"ü"}'.encode())
    assert _framed(message, reply) == await written_by_the_client(message, reply)


def test_a_message_without_headers_is_the_plain_command() -> None:
    assert _framed(Message("s", (), b"{}"), "r") == command.pub_cmd("s", "r", b"{}")


@pytest.mark.parametrize("header", [("ce-id", "a\r\nNats-Rollup: all"), ("ce-id", "a\nb"), ("a\nb", "c")])
def test_a_header_cannot_bring_another_one(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="one line"):
        _framed(Message("s", (*HEADERS, header), b""))
