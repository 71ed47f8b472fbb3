"""The contract against the running server: schemathesis makes requests from it, right ones and wrong ones.

The seed is fixed and the number of examples bounded, so a run is the same every time. What a schema cannot say (a grant
needs a published version) makes a well-formed request fail with 422: that is accepted here, and tested elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import negative_data_rejection

from ledger.embedded.postgres import Postgres
from tests.contract.conftest import SITE, Api, api_on_a_thread
from tests.contract.test_openapi import CONTRACT

MAX_EXAMPLES = 10

CONFIG = SchemathesisConfig.from_dict(
    {
        # A position is of one site, which a schema cannot say.
        "parameters": {"path.site": SITE, "header.Consent-Min-Position": f"{SITE}:0"},
        "generation": {"max-examples": MAX_EXAMPLES, "deterministic": True, "database": "none", "mode": "all"},
        "checks": {
            # 410: a visitor whose erasure was ordered a moment ago.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "304", "404", "409", "410", "422", "503"]},
        },
        # A batch takes any text: each line is refused on its own, in an answer that is 200.
        "operations": [
            {"include-operation-id": "postBatch", "checks": {"negative_data_rejection": {"enabled": False}}},
            # Nobody guesses a proof or a request's token.
            *(
                {
                    "include-operation-id": operation,
                    "checks": {"positive_data_acceptance": {"expected-statuses": ["403"]}},
                }
                for operation in ("proveRequest", "downloadRequest")
            ),
            # Whatever the token is, as long as it is none: the answer is the same.
            {
                "include-operation-id": "download",
                "checks": {
                    "negative_data_rejection": {"enabled": False},
                    "positive_data_acceptance": {"expected-statuses": ["404", "410"]},
                },
            },
        ],
    }
)


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """A body of one line, which is what a test makes of it: an event in JSON, or any text."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else json.dumps(value).encode()


@pytest.fixture(scope="module")
def api(postgres: Postgres, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of its own: the contract's example visitor is erased here, and other tests record for them."""
    with api_on_a_thread(postgres, template_database, tmp_path_factory.mktemp("schema") / "keys") as running:
        yield running


@pytest.fixture
def contract(request: pytest.FixtureRequest) -> schemathesis.BaseSchema:
    request.node._nodeid = request.node.nodeid  # where schemathesis looks for it, and pytest from 9.2 on has it no more
    return schemathesis.openapi.from_dict(CONTRACT, config=CONFIG)


# By a fixture: to think out what each operation is tried with takes long, and at collection every worker would.
schema = schemathesis.pytest.from_fixture("contract")


@pytest.mark.slow
@schema.parametrize()
def test_the_server_keeps_the_contract(case: schemathesis.Case, api: Api) -> None:
    # A null in a query is not null on its way: it is the text "null" or nothing at all, and either may be right.
    excluded = [negative_data_rejection] if None in (case.query or {}).values() else []
    headers = {"Authorization": f"Bearer {api.secret}"}
    case.call_and_validate(base_url=api.url, headers=headers, excluded_checks=excluded, timeout=30)
