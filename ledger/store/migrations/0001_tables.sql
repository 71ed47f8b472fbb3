-- The tables. Everything that matters is in `entry` (the log, public) and `opening` (what may be forgotten);
-- the rest is an index over them, or a projection that can be rebuilt from them.

create table ledger.site (
    -- The row that an append locks. It is never updated, so old snapshots do not slow the lock.
    site_id    integer generated always as identity primary key,
    site       text not null unique,
    origin     text not null unique,
    created_at timestamptz not null default now(),
    admin_of   integer unique references ledger.site  -- whose administrative log this is; null: a site's own log
);

create table ledger.entry (
    -- The log: seq is the index, entry the exact bytes (SPEC.md). Time, kind and hashes are inside the bytes.
    site_id integer not null,
    seq     bigint  not null,
    entry   bytea   not null,
    primary key (site_id, seq)
);
-- Never compressed: hashes do not shrink. External and not plain, for an erasure of 4,096 seqs exceeds a page.
alter table ledger.entry alter column entry set storage external;

create table ledger.opening (
    -- Salt and payload of events and erasures, sealed. A row vanishes only with a row in `erased` (see 0003).
    site_id integer not null,
    seq     bigint  not null,
    sealed  bytea   not null,   -- under a data key, bound to the entry's commitment (core/sealing)
    visitor bytea,              -- keyed hash of the visitor id, 16 bytes; null for an erasure's record
    content bytea,              -- keyed hash of what the client sent, without sentAt; tells a retry from a conflict
    primary key (site_id, seq)
);
-- What is sealed does not shrink: trying to compress it would only cost.
alter table ledger.opening alter column sealed set storage external;
create index opening_visitor on ledger.opening (site_id, visitor, seq) where visitor is not null;

create table ledger.data_key (
    -- The keys that seal a site's rows, each wrapped under a master secret that is not in the database (0012).
    site_id        integer     not null,
    key_no         integer     not null check (key_no > 0),
    role           text        not null check (role in ('opening', 'lookup', 'register', 'hold')),
    master_version integer     not null check (master_version > 0),
    wrapped        bytea,           -- null: destroyed, and with it whatever it sealed, in every copy of the rows
    since_seq      bigint      not null,  -- the log's size when it was made: no entry below is sealed by it
    created_at     timestamptz not null default now(),
    destroyed_at   timestamptz,
    primary key (site_id, key_no),
    check ((wrapped is null) = (destroyed_at is not null))
);
create index data_key_opening on ledger.data_key (site_id, key_no) where role = 'opening';
create unique index data_key_single on ledger.data_key (site_id, role) where role in ('lookup', 'register');

create table ledger.known (
    -- What was appended already: an event by the keyed hash of its id, every other kind by H(core). Outlives erasure.
    site_id integer not null,
    key     bytea   not null,
    seq     bigint  not null,
    primary key (site_id, key)
);

create table ledger.erased (
    -- Which events were erased, and by which entry. The deletion trigger of `opening` asks here.
    site_id integer not null,
    seq     bigint  not null,
    by_seq  bigint  not null,
    primary key (site_id, seq)
);
create index erased_by on ledger.erased (site_id, by_seq);

create table ledger.signer (
    -- Root and ingest keys by H(public), kept by the append functions from entries of kinds 0 and 2.
    site_id  integer  not null,
    key_hash bytea    not null,
    role     text     not null check (role in ('root', 'ingest')),
    public   bytea    not null,
    since    bigint   not null,
    until    bigint,
    primary key (site_id, key_hash)
);

create table ledger.document (
    -- Published documents (policies, notices) by SHA-256. Inserted before the entry that names them.
    hash       bytea primary key check (octet_length(hash) = 32 and hash = sha256(body)),
    media_type text  not null,
    body       bytea not null
);

create table ledger.policy (
    -- Where each policy version was published.
    site_id  integer not null,
    version  text    not null,
    seq      bigint  not null,
    document bytea   not null references ledger.document,
    primary key (site_id, version)
);
create unique index policy_seq on ledger.policy (site_id, seq);

create table ledger.api_key (
    -- Keys have 256 random bits, so a plain SHA-256 is enough to keep them out of the database.
    key_hash   bytea       primary key,
    site_id    integer     not null references ledger.site,
    class      text        not null check (class in ('publishable', 'secret')),
    scopes     text[]      not null,
    label      text        not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

create table ledger.projection (
    -- Versions of the visitor state of each site; exactly one is live.
    site_id    integer not null,
    version    integer not null,
    position   bigint  not null,  -- every event up to this seq is folded in
    live       boolean not null,
    due_policy bigint  not null default -1,  -- every due_ms takes the policies up to this seq into account
    due_target bigint,            -- the pass under way: the policies that it takes into account,
    due_after  bytea,             -- and the visitor up to whom it came; null: there is none (0010)
    primary key (site_id, version)
);
create unique index projection_live on ledger.projection (site_id) where live;

create table ledger.state (
    -- One visitor's folded events up to `seq`. No row: nothing folded yet, or forgotten; readers fold what comes after.
    site_id integer not null,
    version integer not null,
    visitor bytea   not null,
    seq     bigint  not null,
    body    bytea   not null,
    due_ms  bigint,             -- when its grants are to be looked at again (0010); null: nothing will lapse by itself
    told    bytea,              -- the lapses that are in the log, folded from its events; null: none
    primary key (site_id, version, visitor)
);
create index state_due on ledger.state (site_id, version, due_ms) where due_ms is not null;

create table ledger.unfolded (
    -- Visitors whose row an erasure took while other events of theirs are left: to be folded again.
    site_id integer not null,
    version integer not null,
    visitor bytea   not null,
    primary key (site_id, version, visitor)
);
