"""Visitors who are linked to accounts: choices for every browser of an account, and the ends of links."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ledger.core.encoding import decode_time, encode_time
from ledger.secrets import new_event_id
from tests.contract.conftest import Answer, Client, grant, refusal, visitor
from tests.contract.test_event_types import event
from tests.contract.test_events import assert_problem
from tests.contract.test_reads import consent


async def link(client: Client, who: str, account: str, kind: str = "account.linked") -> dict[str, Any]:
    answer = await client.post(event(kind, visitor=who, account=account), key=client.api.secret)
    assert answer.status == 201, answer.body
    receipt: dict[str, Any] = answer.json
    return receipt


async def post(client: Client, sent: dict[str, Any], **members: Any) -> dict[str, Any]:
    answer = await client.post({**sent, **members})
    assert answer.status == 201, answer.body
    receipt: dict[str, Any] = answer.json
    return receipt


async def told(client: Client, who: str, query: str = "") -> dict[str, Any]:
    answer = await consent(client, who, f"?purpose=analytics{query}")
    assert answer.status == 200, answer.body
    decision: dict[str, Any] = answer.json["decisions"]["analytics"]
    return decision | {"linked": answer.json.get("linked", False)}


async def checked(client: Client, *visitors: str, **members: Any) -> dict[str, str]:
    question = {"visitors": list(visitors), "purposes": ["analytics"], **members}
    answer = await client.call("POST", "check", key=client.api.secret, json=question)
    assert answer.status == 200, answer.body
    return {who: answer.json["results"][who]["analytics"]["decision"] for who in visitors}


async def history(client: Client, who: str, query: str = "") -> Answer:
    return await client.call("GET", f"history{query}", key=client.api.secret, headers={"Consent-Visitor": who})


async def test_a_choice_for_the_account_counts_on_every_browser_that_is_linked_and_on_no_other(client: Client) -> None:
    phone, desktop, stranger, account = visitor(), visitor(), visitor(), visitor()
    await link(client, phone, account)
    await link(client, desktop, account)
    granted = await post(client, grant(visitor=phone, scope="account"))
    for who in (phone, desktop):
        answer = await told(client, who)
        assert (answer["decision"], answer["seq"], answer["linked"]) == ("granted", granted["seq"], True)
    answer = await told(client, stranger)
    assert (answer["decision"], answer["linked"]) == ("denied", False)
    assert await checked(client, phone, stranger, desktop) == {
        phone: "granted",
        stranger: "denied",
        desktop: "granted",
    }
    # Whoever takes it back on one of them takes it back on both.
    await post(client, refusal(visitor=desktop, type="consent.withdrawn", scope="account"))
    assert (await told(client, phone))["reason"] == "withdrawn"
    assert (await told(client, desktop))["reason"] == "withdrawn"


async def test_a_choice_for_the_device_stays_on_it_though_it_is_linked(client: Client) -> None:
    phone, desktop, account = visitor(), visitor(), visitor()
    await link(client, phone, account)
    await link(client, desktop, account)
    await post(client, grant(visitor=phone))
    assert (await told(client, phone))["decision"] == "granted"
    assert (await told(client, desktop))["reason"] == "never_asked"


async def test_opposite_choices_of_device_and_account_are_shown_as_a_conflict_and_denied(client: Client) -> None:
    phone, desktop, account = visitor(), visitor(), visitor()
    await link(client, phone, account)
    await link(client, desktop, account)
    await post(client, refusal(visitor=desktop))
    await post(client, grant(visitor=phone, scope="account"))
    answer = await told(client, desktop)
    assert (answer["decision"], answer["reason"], answer["conflict"], answer["ask"]) == (
        "denied",
        "conflict",
        True,
        True,
    )
    assert "conflict" not in await told(client, phone)
    await post(client, grant(visitor=desktop))
    assert (await told(client, desktop))["decision"] == "granted"


async def test_what_was_chosen_for_the_account_ends_with_the_link_and_comes_back_with_it(client: Client) -> None:
    phone, account = visitor(), visitor()
    first = await link(client, phone, account)
    await post(client, grant(visitor=phone, scope="account"))
    unlinked = await link(client, phone, account, "account.unlinked")
    assert [(await told(client, phone))[name] for name in ("decision", "linked")] == ["denied", False]
    again = await link(client, phone, account)
    assert (await told(client, phone))["decision"] == "granted"
    assert first["seq"] < unlinked["seq"] < again["seq"]


async def test_two_accounts_on_one_device_never_merge(client: Client) -> None:
    shared, hers, his = visitor(), visitor(), visitor()
    await link(client, shared, hers)
    await post(client, grant(visitor=shared, scope="account"))
    await link(client, shared, his)  # ends the link to hers
    assert (await told(client, shared))["reason"] == "never_asked"
    await post(client, refusal(visitor=shared, scope="account"))
    assert (await told(client, shared))["reason"] == "refused"
    await link(client, shared, hers)
    assert (await told(client, shared))["decision"] == "granted"


async def test_the_end_of_a_link_that_another_has_ended_leaves_that_one_alone(client: Client) -> None:
    shared, hers, his = visitor(), visitor(), visitor()
    await link(client, shared, hers)
    await post(client, refusal(visitor=shared, scope="account"))
    await link(client, shared, his)
    await link(client, shared, hers)
    late = await client.post(event("account.unlinked", visitor=shared, account=his), key=client.api.secret)
    assert_problem(late, 422, "not-linked", "/account")
    assert (await told(client, shared))["linked"] is True
    end = event("account.unlinked", visitor=shared, account=hers)
    first = await client.post(end, key=client.api.secret)
    again = await client.post(end, key=client.api.secret)
    assert (first.status, again.status, again.json) == (201, 200, first.json)


async def test_a_denial_for_an_account_that_there_is_none_for_is_kept_for_the_device(client: Client) -> None:
    who = visitor()
    await post(client, grant(visitor=who))
    await post(client, refusal(visitor=who, type="consent.withdrawn", scope="account"))
    assert (await told(client, who))["reason"] == "withdrawn"


async def test_a_retry_after_the_link_ended_gets_its_receipt(client: Client) -> None:
    who, account = visitor(), visitor()
    await link(client, who, account)
    chosen = grant(visitor=who, scope="account")
    first = await client.post(chosen)
    await link(client, who, account, "account.unlinked")
    again = await client.post(chosen)
    assert (first.status, again.status, again.json) == (201, 200, first.json)


async def test_the_past_knows_the_links_of_its_time(client: Client) -> None:
    phone, desktop, account = visitor(), visitor(), visitor()
    seqs = [(await link(client, phone, account))["seq"]]
    seqs.append((await post(client, grant(visitor=phone, scope="account")))["seq"])
    linked = await link(client, desktop, account)
    unlinked = await link(client, desktop, account, "account.unlinked")
    await asyncio.sleep(0.02)  # so that no later event has its time
    seqs.append((await post(client, refusal(visitor=phone, scope="account", type="consent.withdrawn")))["seq"])
    known = {
        (who, seq): (await told(client, who, f"&knownAt={seq}"))["decision"]
        for who in (phone, desktop)
        for seq in (*seqs, linked["seq"], unlinked["seq"])
    }
    granted = {key for key, decision in known.items() if decision == "granted"}
    assert granted == {(phone, seqs[1]), (phone, linked["seq"]), (phone, unlinked["seq"]), (desktop, linked["seq"])}
    at_link, later = linked["recordedAt"], encode_time(decode_time(unlinked["recordedAt"]) + 10)
    singles = {at: (await told(client, phone, f"&at={at}"))["decision"] for at in (at_link, later)}
    assert singles == {at_link: "granted", later: "granted"}
    assert (await told(client, desktop, f"&at={later}"))["decision"] == "denied"
    assert await checked(client, phone, desktop, at=later) == {phone: "granted", desktop: "denied"}
    assert await checked(client, phone, desktop) == {phone: "denied", desktop: "denied"}


async def test_a_history_holds_what_this_visitor_did_for_its_accounts_and_nothing_of_the_others(client: Client) -> None:
    phone, desktop, hers, his = visitor(), visitor(), visitor(), visitor()
    mine = [
        await post(client, refusal(visitor=phone)),
        await link(client, phone, hers),
        await post(client, grant(visitor=phone, scope="account")),
    ]
    await link(client, desktop, hers)
    await post(client, grant(visitor=desktop, scope="account"))
    mine += [
        await link(client, phone, his),
        await post(client, refusal(visitor=phone, scope="account")),
        await post(client, event("consent.dismissed", visitor=phone)),
        await link(client, phone, his, "account.unlinked"),
        await post(client, grant(visitor=phone)),
    ]
    await post(client, refusal(visitor=desktop, scope="account"))
    for limit in (1, 2, 3, 500):
        seqs, query = [], f"?limit={limit}"
        while query:
            page = (await history(client, phone, query)).json
            assert len(page["events"]) <= limit
            assert {item["event"]["visitor"] for item in page["events"]} == {phone}
            seqs += [item["seq"] for item in page["events"]]
            query = f"?limit={limit}&cursor={page['next']}" if "next" in page else ""
        assert seqs == [receipt["seq"] for receipt in mine]


async def test_a_batch_may_link_a_visitor_and_choose_for_its_account(client: Client) -> None:
    who, account = visitor(), visitor()
    lines = [
        event("account.linked", visitor=who, account=account),
        grant(visitor=who, scope="account"),
        event("account.unlinked", visitor=who, account=account),
        grant(visitor=who, scope="account", id=new_event_id(1_790_000_000_000)),
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await client.call("POST", "events:batch", key=client.api.secret, data=body, headers=headers)
    assert [json.loads(line)["status"] for line in answer.body.splitlines()] == [201, 201, 201, 422]


async def test_an_answer_explains_itself_in_words_without_the_visitor(client: Client) -> None:
    who, account = visitor(), visitor()
    await link(client, who, account)
    await post(client, grant(visitor=who, scope="account"))
    for query in ("", "&at=2026-01-01T00:00:00Z"):
        explained = await told(client, who, f"&explain=1{query}")
        assert len(explained["explanation"]) > 1
        assert not any(who in sentence or account in sentence for sentence in explained["explanation"])
    assert "explanation" not in await told(client, who)
    assert (await consent(client, who, "?explain=yes")).status == 400


async def test_a_check_of_every_purpose_at_once_is_refused(client: Client) -> None:
    question = {"visitors": [visitor()], "purposes": ["analytics", "*"]}
    answer = await client.call("POST", "check", key=client.api.secret, json=question)
    assert (answer.status, answer.json["pointer"]) == (422, "/purposes/1")
