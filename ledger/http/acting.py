"""Who stands behind a call that is an administrative act: the key's name, its address, and the instruction it cites.

A caller may name the instruction in the header `Consent-Instruction`, and in `Consent-Instruction-Flag` why it is
believed unlawful; both go on record beside the act and have no other effect.
"""

from __future__ import annotations

from typing import get_args

from aiohttp import web

from ledger.administration import Acting, Who
from ledger.core import forms
from ledger.core.admin_act import Flag
from ledger.core.errors import InputRefused
from ledger.http.auth import Admitted
from ledger.http.edge import Edge

INSTRUCTION = "Consent-Instruction"
FLAG = "Consent-Instruction-Flag"


def who_acts(request: web.Request, edge: Edge, admitted: Admitted) -> Who:
    """The caller as the administrative log tells of him. `InputRefused` for a header that has not its form."""
    address = edge.address_of(request)
    instruction, flag = request.headers.get(INSTRUCTION), request.headers.get(FLAG)
    flagged = next((known for known in get_args(Flag) if known == flag), None)
    if instruction is not None and not (forms.INSTRUCTION.fits(instruction) and forms.is_plain(instruction)):
        raise InputRefused("invalid-parameter", f"{INSTRUCTION} is {forms.INSTRUCTION.expected}.")
    if flag is not None and flagged is None:
        raise InputRefused("invalid-parameter", f"{FLAG} is {' or '.join(get_args(Flag))}.")
    return Who(admitted.principal.name, "api_key", instruction, address, flagged)


def acting_of(request: web.Request, edge: Edge, admitted: Admitted) -> Acting:
    """Records acts of the caller about the site of the call."""
    return edge.service.administration.acting(admitted.site.site, who_acts(request, edge, admitted))
