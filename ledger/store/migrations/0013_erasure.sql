-- Forgetting: erasures ordered, who is blocked meanwhile, and what outlives an erasure.
--
-- A subject is the keyed hash of a visitor or of an account (16 bytes). None of these tables is part of the log: what
-- was erased, and why, is told by the erasure entries and their records.

create table ledger.erasure (
    -- One order, and how far it is. `subject` is forgotten (null) with the last thing that is kept under it.
    site_id      integer not null,
    id           uuid    not null,
    subject      bytea,
    is_account   boolean not null,
    level        text    not null check (level in ('erase', 'hold', 'restrict')),
    reason       text    not null,
    sealed       bytea   not null,  -- the instruction, as it was given, under the site's register key
    evidence     bytea   not null check (octet_length(evidence) = 32),
    hold_for     text,              -- ISO 8601; with the level hold
    act          text    not null,  -- position of the administrative act that ordered it
    status       text    not null check (status in ('pending', 'erased', 'restricted', 'lifted', 'superseded')),
    requested_ms bigint  not null,
    blocked_ms   bigint  not null,
    due_ms       bigint  not null,
    ended_ms     bigint,            -- when nothing was left to erase, or a restriction was lifted
    events       bigint  not null default 0,
    primary key (site_id, id)
);
create index erasure_waiting on ledger.erasure (site_id, due_ms) where status = 'pending';

create table ledger.erasure_entry (
    -- Which erasure entries took away how many events for an order.
    site_id integer not null,
    erasure uuid    not null,
    seq     bigint  not null,
    events  integer not null,
    primary key (site_id, erasure, seq)
);

create table ledger.block (
    -- Under pending and erased nothing is recorded; under each of the three every optional purpose is denied.
    site_id  integer not null,
    subject  bytea   not null,
    state    text    not null check (state in ('pending', 'restricted', 'erased')),
    since_ms bigint  not null,
    until_ms bigint,
    erasure  uuid    not null,
    primary key (site_id, subject)
);

create table ledger.mark (
    -- What stands in for denials that were erased: see core/question. The newest of each purpose.
    site_id  integer not null,
    subject  bytea   not null,
    purpose  text    not null,
    set_ms   bigint  not null,
    until_ms bigint  not null,
    seq      bigint  not null,
    erasure  uuid,
    primary key (site_id, subject, purpose)
);

create table ledger.held (
    -- Openings that were erased and are held as proof for a term, under a data key of their own.
    site_id  integer not null,
    seq      bigint  not null,
    sealed   bytea   not null,
    until_ms bigint  not null,
    erasure  uuid    not null,
    primary key (site_id, seq)
);
create index held_by on ledger.held (site_id, erasure);

create table ledger.kept (
    -- Events that an erasure left, for law wants them kept until then.
    site_id  integer not null,
    seq      bigint  not null,
    until_ms bigint  not null,
    purposes text[]  not null,
    erasure  uuid    not null,
    primary key (site_id, seq)
);

create table ledger.related (
    -- Which visitors ever had to do with which accounts, both ways: an account's links lie under its visitors, a
    -- visitor's choices for accounts under these.
    site_id integer not null,
    subject bytea   not null,
    other   bytea   not null,
    primary key (site_id, subject, other)
);

grant select on ledger.erasure, ledger.erasure_entry, ledger.block, ledger.mark, ledger.held, ledger.kept,
    ledger.related to ledger_service;
