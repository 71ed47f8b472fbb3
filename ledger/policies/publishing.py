"""Publishing: documents that are uploaded, versions of a policy that name them, and both to be read again.

What a version may say is judged in core; this finds what it is to be judged beside, and keeps it. Recording and
deciding are ledger/service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import NamedTuple

from ledger import config
from ledger.administration import Acting
from ledger.core.document import SiteDocument
from ledger.core.encoding import decode_decimal, encode_time
from ledger.core.entry import ZEROS, Kind
from ledger.core.errors import DocumentInvalid, InputRefused, Malformed, NotFound, Unavailable, VersionTaken
from ledger.core.notice import check_notice, media_type_of, pictures_of, read_notice
from ledger.core.policy import Published, encode_document, parse_site_document
from ledger.core.succession import check_succession
from ledger.messages import (
    DocumentStored,
    PolicyDiff,
    PolicyItem,
    PolicyList,
    PolicyPublished,
)
from ledger.policies.difference import described
from ledger.site import Site, SiteRegistry
from ledger.store.append import ControlDraft
from ledger.store.ask import locked
from ledger.store.reads import Reads

log = logging.getLogger(__name__)

# Held while a version is judged and appended: two that were judged beside the same predecessor might not fit together.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('consent-ledger publish', $1::bigint))"


class Publication(NamedTuple):
    """`replayed`: this very version was published before."""

    answer: PolicyPublished
    replayed: bool


class Upload(NamedTuple):
    """`replayed`: these very bytes were uploaded before."""

    answer: DocumentStored
    replayed: bool


class Publisher:
    """What one process publishes, and reads of what was published."""

    def __init__(self, sites: SiteRegistry, reads: Reads, wall_ms: Callable[[], int]) -> None:
        self._sites = sites
        self._reads = reads
        self._wall_ms = wall_ms
        self._one_at_a_time = asyncio.Lock()

    # --- writing ---------------------------------------------------------------------------------------------------

    async def upload(self, media_type: str, body: bytes, acting: Acting | None = None) -> Upload:
        """Keep a document that a version is going to name, under its SHA-256; once however often it is sent.

        `acting` records the act, here and in `publish`, before anything is kept.
        """
        is_picture = media_type.startswith("image/")
        limit = config.PICTURE_MAX_BYTES if is_picture else config.NOTICE_MAX_BYTES
        if len(body) > limit:
            raise InputRefused("body-too-large", f"A document of the type {media_type} has at most {limit} bytes.")
        found = media_type_of(body)
        if found != media_type:
            raise InputRefused("other-media-type", f"These bytes are {found}, not {media_type}: send them as that.")
        digest = sha256(body).digest()
        known = await self._reads.document(digest) is not None
        if not known:
            if acting is not None:
                told = {"document": digest.hex(), "mediaType": found, "size": str(len(body))}
                await acting("document.uploaded", told)
            await self._reads.put_document(found, body)
        return Upload(DocumentStored(document=digest.hex(), media_type=found, size_bytes=len(body)), known)

    async def publish(self, site: Site, source: bytes, acting: Acting | None = None) -> Publication:
        """Publish a version of the site document, in YAML or JSON. The same version with the same content is published
        once; with other content it is `VersionTaken`.
        """
        document = parse_site_document(source)
        if document.site != site.site:
            raise InputRefused("wrong-site", f"The document is of {document.site}, not of {site.site}.", "/site")
        async with self._alone(site):
            await self._sites.refresh_policies(site)
            known = site.policies.get(document.version)
            if known is not None:
                return self._replay(site, known, document)
            check_succession(site.policies, document, self._wall_ms())
            await self._check_documents(document)
            if acting is not None:
                digest = sha256(encode_document(document)).hexdigest()
                await acting("policy.published", {"version": document.version, "document": digest})
            return await self._append(site, document)

    @asynccontextmanager
    async def _alone(self, site: Site) -> AsyncIterator[None]:
        """Nobody else publishes for the site meanwhile, in this process or another."""
        if site.sequencer is None:
            raise self._sites.hindrance(site)
        async with self._one_at_a_time, locked(self._reads.pool, _LOCK, site.site_id):
            yield

    async def _append(self, site: Site, document: SiteDocument) -> Publication:
        sequencer = site.sequencer
        if sequencer is None:
            raise self._sites.hindrance(site)
        digest: bytes = await self._reads.put_document("application/json", encode_document(document))
        public = digest + document.version.encode()
        signature = sequencer.signer.sign(Kind.POLICY, ZEROS, public)
        draft = ControlDraft(Kind.POLICY, ZEROS, sequencer.signer.key_hash, signature, public)
        replayed = False
        try:
            await sequencer.submit_control(draft)
        except InputRefused:
            log.info("a version was published twice at once")  # the unique version decides; read it below
            replayed = True
        await self._sites.refresh_policies(site)
        known = site.policies.get(document.version)
        if known is None:
            raise Unavailable("internal", "The version was not stored; try again.")
        return self._replay(site, known, document)._replace(replayed=replayed)

    def _replay(self, site: Site, known: Published, document: SiteDocument) -> Publication:
        if known.document != document:
            raise VersionTaken(
                f"Version {document.version} is published with other content; give this one a new version."
            )
        answer = PolicyPublished(
            site=site.site,
            version=document.version,
            document=known.document_hash.hex(),
            seq=known.seq,
            position=f"{site.site}:{known.seq}",
        )
        return Publication(answer, True)

    async def _check_documents(self, document: SiteDocument) -> None:
        """That what the document names was uploaded, is what it is said to be, and fits."""
        for name, notice in document.notices.items():
            place = f"/notices/{name}/document"
            media_type, body = await self._uploaded(notice.document, place)
            if media_type != notice.media_type:
                raise InputRefused(
                    "invalid-document", f"The notice was uploaded as {media_type}.", f"/notices/{name}/mediaType"
                )
            if media_type == "application/json":
                languages = (notice.language,) if notice.language else document.languages
                try:
                    check_notice(read_notice(body), languages, document.purposes)
                except DocumentInvalid as error:
                    raise InputRefused("invalid-document", f"The notice {name} does not fit: {error}", place) from error
            for picture in pictures_of(body):
                await self._uploaded(picture, place)
        for name, purpose in document.purposes.items():
            if purpose.document is not None:
                await self._uploaded(purpose.document, f"/purposes/{name}/document")

    async def _uploaded(self, digest: str, place: str) -> tuple[str, bytes]:
        found = await self._reads.document(bytes.fromhex(digest))
        if found is None:
            raise InputRefused(
                "document-missing",
                f"The document {digest} was not uploaded: PUT it to …/documents first, or let `consent-ledger policy "
                "publish` do so from a file that is named in its place.",
                place,
            )
        return found

    # --- reading ---------------------------------------------------------------------------------------------------

    async def document(self, digest: bytes) -> tuple[str, bytes]:
        """Media type and bytes of a document; `NotFound` otherwise."""
        document = await self._reads.document(digest)
        if document is None:
            raise NotFound("No document of this hash was published.")
        return document

    async def policy(self, site: Site, version: str | None = None, at_ms: int | None = None) -> tuple[str, bytes]:
        """Hash (hex) and bytes of a version, or of the one in force at a time (None: now); `NotFound` without one."""
        if version is not None:
            found = await self._version(site, version)
        else:
            in_force = site.policies.in_force(self._wall_ms() if at_ms is None else at_ms)
            if in_force is None:
                raise NotFound("The site has no policy in force" + (" then." if at_ms is not None else "."))
            found = in_force
        return found.document_hash.hex(), encode_document(found.document)

    async def versions(self, site: Site, cursor: str | None, limit: int) -> PolicyList:
        """A page of the versions, the newest in the log first; the cursor is the last seq of the page before."""
        try:
            before = None if cursor is None else decode_decimal(cursor)
        except Malformed as error:
            raise InputRefused("invalid-cursor", "Use the `next` of the page before as cursor.") from error
        await self._sites.refresh_policies(site)
        in_force = site.policies.in_force(self._wall_ms())
        entries = [entry for entry in reversed(tuple(site.policies)) if before is None or entry.seq < before]
        return PolicyList(
            site=site.site,
            policies=[
                PolicyItem(
                    version=entry.document.version,
                    effective_at=encode_time(entry.effect_ms),
                    published_at=encode_time(entry.published_ms),
                    seq=entry.seq,
                    document=entry.document_hash.hex(),
                    in_force=entry is in_force,
                )
                for entry in entries[:limit]
            ],
            next=str(entries[limit - 1].seq) if len(entries) > limit else None,
        )

    async def difference(self, site: Site, before: str | None, after: str | None) -> PolicyDiff:
        """What `after` (None: the version in force) changes, compared with `before` (None: the one before it)."""
        await self._sites.refresh_policies(site)
        policies = site.policies
        newer = policies.in_force(self._wall_ms()) if after is None else await self._version(site, after)
        if newer is None:
            raise NotFound("The site has no policy in force.")
        end = policies.in_effect_order.index(newer)
        older = (
            (policies.in_effect_order[end - 1] if end else None)
            if before is None
            else (await self._version(site, before))
        )
        start = end if older is None else policies.in_effect_order.index(older)

        def why(purpose: str) -> list[str]:
            every = [why for index in range(start + 1, end + 1) for why in policies.why_material(index, purpose)]
            return list(dict.fromkeys(every))

        return described(older and older.document, newer.document, why)

    async def _version(self, site: Site, version: str) -> Published:
        if site.policies.get(version) is None:
            await self._sites.look_for_version(site)
        found = site.policies.get(version)
        if found is None:
            raise NotFound(f"The site has published no version {version[:64]!r}; …/policies lists those it has.")
        return found
