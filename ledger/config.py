"""Every bound of the running system by name, its unit last. The settings of `ledger/settings` are at hand here too.

Bounds of formats (payload, entry, checkpoint sizes) live with the format in `ledger/core`.
"""

from __future__ import annotations

from ledger.settings import VARIABLES, Settings, Variable, load_settings

__all__ = ["VARIABLES", "Settings", "Variable", "load_settings"]

# One event's way in
EVENT_BODY_MAX_BYTES = 16_384
BATCH_BODY_MAX_BYTES = 8 * 1024 * 1024
BATCH_MAX_LINES = 10_000
CHECK_BODY_MAX_BYTES = 2 * 1024 * 1024
POLICY_BODY_MAX_BYTES = 256 * 1024
BODY_READ_TIMEOUT_SECONDS = 30

# The HTTP edge
BATCH_WINDOW_LINES = 512
"""Lines of one batch that are being recorded at once; the body is read only as fast as they commit."""
BATCH_READ_TIMEOUT_SECONDS = 300.0
"""How long, all in all, a batch may keep us waiting for its bytes; the time in which we commit does not count."""
WRITE_TIMEOUT_SECONDS = 30.0
"""A client that takes none of its answer for this long is cut off."""
KEEPALIVE_TIMEOUT_SECONDS = 75.0
"""An idle connection, or one whose request headers are not complete, is closed after this long."""
LINGER_SECONDS = 5.0
"""How long the unread rest of a refused body is read and thrown away, so that the client sees the answer."""
SHUTDOWN_TIMEOUT_SECONDS = 15.0
"""Requests in progress are given this long when the server stops; Kubernetes kills after 30."""
HEADER_LINE_MAX_BYTES = 8_190
HEADERS_MAX = 64
CHECK_MAX_ANSWERS = 100_000
"""Visitors times purposes of one check."""
PREFLIGHT_MAX_AGE_SECONDS = 600
ORIGIN_CACHE_MAX = 1_024
POLICY_MAX_AGE_SECONDS = 60
"""How long a cache may show a policy that is no longer the one in force."""

# Documents that are published beside a policy
NOTICE_MAX_BYTES = 256 * 1024
"""A notice artefact, or a text."""
PICTURE_MAX_BYTES = 2 * 1024 * 1024
POLICY_PAGE_DEFAULT_VERSIONS = 100
POLICY_PAGE_MAX_VERSIONS = 500

# The sequencer
APPEND_MAX_DRAFTS = 256
"""Drafts in one append. 512 answers fit a socket buffer; more could block a backend that holds the lock."""
APPEND_BULK_MIN_DRAFTS = 16
"""Of them, for bulk if it waits, however many single events there are."""
SINGLE_LANE_MAX_DRAFTS = 4_096
BULK_LANE_MAX_DRAFTS = 2_048
CONTROL_LANE_MAX_DRAFTS = 64
APPEND_TIMEOUT_SECONDS = 5.0
SETTLE_BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Pauses between attempts to settle a batch whose answer was lost; the last one repeats."""
SETTLE_PATIENT_ATTEMPTS = 3
"""From this attempt on, what is queued behind an unsettled batch is refused at once."""
WAITER_TIMEOUT_SECONDS = 8.0
"""After this long an event's waiter is told 503; its draft may still land, and a retry by id finds it."""
SHUTDOWN_DRAIN_SECONDS = 10.0

# Grants and their clocks (core/admission)
GRANT_MAX_AGE_SECONDS = 7 * 24 * 3600
GRANT_MAX_AHEAD_SECONDS = 5 * 60

# Reads
HISTORY_PAGE_MAX_EVENTS = 500
HISTORY_PAGE_EVENTS = 100
CHECK_SLICE_VISITORS = 500
PAST_SLICE_SUBJECTS = 500
"""Visitors or accounts whose histories are read at once for a question about the past."""
PAST_PAGE_EVENTS = 50
"""Events of each that are read at once."""
MIN_POSITION_WAIT_SECONDS = 5.0
API_KEY_CACHE_SECONDS = 5.0
API_KEY_CACHE_MAX_KEYS = 10_000
READINESS_TIMEOUT_SECONDS = 2.0
SITE_REFRESH_SECONDS = 2.0
VERSION_LOOKUP_SECONDS = 0.2
"""Versions that are not known here are looked up in the database at most this often a site."""

# Projector
PROJECT_BATCH_ENTRIES = 2_000
PROJECT_IDLE_SECONDS = 0.25
PROJECT_REST_FACTOR = 2.0
"""How long the projector rests after a round, in times of the round's own length."""
LEASE_RETRY_SECONDS = 2.0
WORKER_RESTART_SECONDS = 1.0

# Verify and export
VERIFY_SMALL_LOG_ENTRIES = 2_048
"""Up to this size the start of worker processes costs more than they save."""
VERIFY_CHUNKS_AHEAD = 4
"""Entry bundles in flight for each worker: keeps every worker supplied, and bounds memory."""
VERIFY_IN_FLIGHT_MAX_BYTES = 64 * 1024 * 1024
"""Of entry bundles with their openings; a hostile bundle has large ones."""
OPENINGS_AHEAD_BYTES = 1024 * 1024
"""Of payloads.ndjson that are read at a time: the openings of a few entry bundles."""
TAR_MAX_MEMBERS = 1_000_000
"""Files of a bundle in a tar: two for every 256 entries."""
TAR_MAX_EXTENDED_BYTES = 65_536
"""Of a long name, or of a pax header."""
TAR_SPOOL_BYTES = 1024 * 1024
"""Of a pipe or of gzip, put into a temporary file at a time."""
TAR_UNPACKED_MAX_FACTOR = 32
"""Salts, hashes and signatures hardly shrink, so gzip that unpacks to more than this is no bundle."""
TAR_UNPACKED_BASE_BYTES = 16 * 1024 * 1024
LIVE_MAX_DIFFERENCES = 100
"""Rows of the database that `verify --live` names; the rest are counted."""
LIVE_PAGE_VISITORS = 500
EXPORT_RANGE_ENTRIES = 1_024
"""Entries, with their openings, that are read in one statement."""
EXPORT_WAIT_SECONDS = 15.0
"""How long an export waits for a checkpoint that covers what it found; `--wait` says otherwise."""
EXPORT_POLL_SECONDS = 0.1
EXPORT_CHECKPOINTER_SILENT_SECONDS = 60
"""A checkpointer that has not reported for so long is taken to be gone."""

# Postgres
POOL_MAX_CONNECTIONS = 10
WRITER_MAX_CONNECTIONS = 8
WORKER_MAX_CONNECTIONS = 6
PART_MAX_CONNECTIONS = 2
"""Of a part of the worker that appends: it does so little at a time."""
READ_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5.0
COMMAND_TIMEOUT_SECONDS = 60.0
"""For one answer of the database to a command: nobody else waits for it."""

# Relay
RELAY_HORIZON_SECONDS = 30 * 24 * 3600
"""How long the stream keeps messages; older history comes from Postgres or `export`."""
RELAY_BATCH_MAX_MESSAGES = 1_000
"""The server's own bound of an atomic batch."""
RELAY_BATCH_MAX_BYTES = 4 * 1024 * 1024
RELAY_POLL_SECONDS = 0.1
"""Each batch costs the stream a sync: under load few large ones leave the machine to the events themselves."""
RELAY_POLL_IDLE_SECONDS = 0.25
RELAY_LOOK_SECONDS = 5.0
"""How often a quiet stream is looked at: whether it is still the one that was left."""
RELAY_STOPPED_LOOK_SECONDS = 30.0
RELAY_BACKOFF_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
RELAY_MAX_BUSY_SITES = 4
"""Sites that are inspected or read and published at one time: bounds memory."""
RELAY_MAX_FORGETTING_SITES = 2
"""Sites whose erased messages are overwritten at one time: about 100 a second, and the disk feels it."""
RELAY_FORGET_BATCH_MESSAGES = 64
RELAY_FORGET_PAUSE_SECONDS = 0.02
RELAY_SAMPLE_MESSAGES = 64

# Recover
RECOVER_WINDOW_ENTRIES = 250
"""Messages that are read, verified and appended again at a time."""
RECOVER_LOCK_TIMEOUT_SECONDS = 10

# What auditors read
CHECKPOINT_QUORUM_PATIENCE_SECONDS = 5.0
"""A checkpoint that its quorum has not cosigned for this long is served all the same: a slow witness blocks no log."""
SERVED_CHECKPOINT_CACHE_SECONDS = 0.25
"""How old an answer about the served checkpoint may be; a tile that it does not cover is asked about anew."""
CHECKPOINT_MAX_AGE_SECONDS = 1
"""How long caches may show a checkpoint that is no longer the served one."""
CHECKPOINT_WAIT_SECONDS = 8.0
"""How long an answer is held, where it is asked for, until a checkpoint covers the entry."""
CHECKPOINT_WAITERS_MAX = 4_096
"""Answers of one site that are held at a time; more are answered at once, without a proof."""
CHECKPOINT_POLL_SECONDS = 0.1
"""How often a new checkpoint is looked for while somebody waits for one."""
PROOFS_AT_ONCE = 256
"""Proofs of one checkpoint that are made of one reading of its tiles."""
TILE_MAX_AGE_SECONDS = 365 * 24 * 3600
PARTIAL_TILE_MAX_AGE_SECONDS = 24 * 3600
"""Partial tiles never change either, but are soon of no use to anybody."""
CHECKPOINT_PAGE_ROWS = 256
TILES_PER_READ = 32
"""Hash tiles of 8 KB that one statement reads or derives."""
TILES_KEPT_MAX = 256
"""Hash tiles that a process keeps for the proofs of receipts: with what is computed from them, 10 MB at most."""
TILES_DERIVED_MAX = 4_096
"""Full tiles that one proof may derive because they are not stored yet: about a million entries."""

# NATS
NATS_CONNECT_TIMEOUT_SECONDS = 3.0
NATS_REQUEST_TIMEOUT_SECONDS = 5.0
NATS_MIN_PAYLOAD_BYTES = 128 * 1024
"""Of the server's `max_payload`: the largest entry in base64 with a record, and room."""

# Witnesses, asked by the log
WITNESS_TIMEOUT_SECONDS = 5.0
"""For one whole exchange with a witness."""
WITNESS_ANSWER_MAX_BYTES = 64 * 1024
WITNESS_CATCH_UP_ATTEMPTS = 4
"""How often one checkpoint is offered to a witness that names another size each time."""
WITNESS_CLOCK_SKEW_SECONDS = 50
"""How far the time of a cosignature may lie from ours. Audit rule 6 gives 60, of which Postgres's clock may take 5."""

# A witness's own server
WITNESS_MAX_IN_FLIGHT = 64
"""Requests of one kind that wait for the witness's database; further ones are told to come again."""
WITNESS_MAX_BODIES = 1_024
"""Offers that are being read at one time, of at most 68 KB each."""
WITNESS_ALARM_SECONDS = 60.0
"""How often an alarm that goes on is logged."""
WITNESS_BODY_TIMEOUT_SECONDS = 10.0
WITNESS_BUSY_TIMEOUT_SECONDS = 5.0
"""How long another process may hold the witness's database."""
WITNESS_CLOCK_BACK_SECONDS = 30
"""A clock set back by no more than this is bridged with the last time; beyond it nothing is cosigned."""
WITNESS_MAX_LOGS = 10_000
WITNESS_MAX_LOG_KEYS = 8
"""Of one log: two while it changes its key, and room."""
WITNESS_EVIDENCE_MAX_ROWS = 64
"""Kept of one log and one kind."""

# Key files
KEY_FILE_MAX_BYTES = 4_096
PASSPHRASE_MIN_CHARACTERS = 16
PASSPHRASE_MAX_OPERATIONS = 16
PASSPHRASE_MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""What a key file may ask of Argon2; what we write asks for 3 operations on 256 MiB."""
KEYS_FOLLOW_SECONDS = 6.0
"""How long servers are given to see a new key: they look every `SITE_REFRESH_SECONDS`."""
KEYS_FOLLOW_TIMEOUT_SECONDS = 60.0
"""A rotation that is not followed by then is left as it is, with both keys active."""
KEYS_LOOKED_AT_ENTRIES = 2_000
"""The newest entries that are looked at for the old key's signature."""
KEYS_LOOK_SECONDS = 0.5
"""How often a command looks for the checkpoint that it waits for."""

# Reading a log over HTTP
LOG_CLIENT_CONNECTIONS = 16
LOG_CLIENT_CONNECT_TIMEOUT_SECONDS = 5.0
LOG_CLIENT_READ_TIMEOUT_SECONDS = 15.0
"""Between two pieces of an answer."""
LOG_CLIENT_TIMEOUT_SECONDS = 60.0
"""Of one attempt, to the last byte; and no new attempt begins when so much has passed since the first."""
LOG_CLIENT_RETRY_PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 0.0)
"""After each failed attempt; the last attempt has no more to wait for."""
LOG_CLIENT_PAUSE_MAX_SECONDS = 10.0
"""Of what a server may ask for with Retry-After."""
LOG_CLIENT_HEADER_MAX_BYTES = 8_190
LOG_CLIENT_AHEAD_TILES = 32
"""Of one level, fetched before they are asked for."""
LOG_CLIENT_AHEAD_MAX_BYTES = 1024 * 1024
"""Of an entry bundle fetched ahead; an ordinary one has 46 KB. A larger one is fetched when it is asked for."""

# A receipt that a command gets from a server
RECEIPT_REQUEST_TIMEOUT_SECONDS = 15.0
RECEIPT_PROOF_POLL_SECONDS = 0.5
RECEIPT_ANSWER_MAX_BYTES = 32 * 1024 * 1024
"""A page may hold a screenshot of the notice that was shown."""

# Renderings of receipts, and the keys that sign some of them
RECEIPT_KEYS_CACHE_SECONDS = 5.0
RECEIPT_KEYS_MAX_AGE_SECONDS = 60
"""How long others may keep the published receipt keys; a new one signs as soon as it lies here."""
RECORD_TIMELINE_MAX_EVENTS = 100
"""Of a visitor's choices, the newest that a page shows, each with the decisions after it."""
RECORD_PICTURES_MAX_BYTES = 8 * 1024 * 1024
"""Of screenshots within one page; further ones are named by their hash."""

# The checkpointer
CHECKPOINT_INTERVAL_SECONDS = 0.5
"""Between the beginnings of two rounds of a growing log: a checkpoint at least every second, with room."""
CHECKPOINT_HEADS_SECONDS = 0.1
CHECKPOINT_HEADS_IDLE_SECONDS = 0.25
CHECKPOINT_LOOK_SECONDS = 5.0
"""How often every record of a quiet log is looked at, and how long a refusal waits before it looks again."""
CHECKPOINT_HEARTBEAT_SECONDS = 3.0
CHECKPOINT_DEAD_SECONDS = 30.0
"""Without a sign of life for this long, the checkpointer is said to be dead."""
CHECKPOINT_SLICE_ENTRIES = 1_000
"""Entries, with their openings, that are read and judged at one time."""
CHECKPOINT_MAX_GROWTH_ENTRIES = 256 * 1_024
"""One checkpoint brings at most so many entries, and with them 1,024 tiles of 8 KB; what is more gets its own."""
CHECKPOINT_MAX_BUSY_SITES = 4
"""Sites in a round at one time: bounds memory."""
CHECKPOINT_REFRESH_SECONDS = 9 * 60
"""A log that does not grow has itself cosigned again after this long, as a sign of life: below ten minutes."""
CHECKPOINT_WITNESS_BACKOFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
CHECKPOINT_WITNESS_STALE_SECONDS = 15 * 60
"""A witness whose newest cosignature is older than this is alarmed."""
CHECKPOINT_COSIGNING_SIZES = 16
"""Checkpoints that may still gain cosignatures; older ones stay as they are."""
CHECKPOINT_KEEP_ALL_SECONDS = 24 * 3600
"""Older checkpoints are thinned out to one every ten minutes."""
CHECKPOINT_THIN_SECONDS = 600.0
CHECKPOINT_THIN_ROWS = 5_000
CHECKPOINT_FIRST_TIMEOUT_SECONDS = 60.0
"""How long founding a site waits for its first checkpoint with its quorum."""
ANCHOR_TIMEOUT_SECONDS = 5.0
EVIDENCE_MAX_FILES = 1_000

# Monitor
MONITOR_INTERVAL_SECONDS = 10.0
MONITOR_MAX_AGE_SECONDS = 30 * 60
"""Of the youngest cosignatures: a log has itself cosigned every ten minutes at least, as a sign of life."""
MONITOR_CLOCK_SKEW_SECONDS = 300
"""A cosignature further ahead of our clock than this is no sign of life."""
MONITOR_UNREACHABLE_PATIENCE_SECONDS = 60
MONITOR_REWOUND_PATIENCE_SECONDS = 30
"""A replica, or a cache, may be a little behind the one that answered before."""
MONITOR_LAG_PATIENCE_SECONDS = 120
MONITOR_GUARDED_PAUSE_SECONDS = 600
"""Before entries that were guarded are asked for again, while nothing else is new."""
MONITOR_QUORUM_PATIENCE_SECONDS = 60
MONITOR_ONCE_PATIENCE_SECONDS = 10.0
"""How long `--once` looks again before it calls a log rewound, or a quorum missing."""
MONITOR_ONCE_PAUSE_SECONDS = 1.0
MONITOR_LOOK_TIMEOUT_SECONDS = 30.0
"""For one URL's checkpoint: a server that holds its answer back does not hold up the others."""
MONITOR_LOOK_AGAIN_SECONDS = 2.0
"""Before tiles, or a checkpoint, that were found wrong are fetched anew, past all caches."""
MONITOR_AHEAD_TILES = 16
MONITOR_KEEP_ENTRIES = 64 * 256
"""After so many entries of a long way the memory is saved, so that a restart goes on from there."""
MONITOR_URLS_MAX = 64
MONITOR_HEADS_KEPT = 1_000
MONITOR_FAULTS_MAX = 100
"""Of a kind, until a person has seen them; likewise evidence."""
MONITOR_FAULTS_TOLD = 3
"""Of one step: the first ones; whoever wants them all runs `verify`."""
MONITOR_EVIDENCE_MAX = 1_000
MONITOR_NOTICES_MAX = 1_000
MONITOR_WEBHOOK_TIMEOUT_SECONDS = 10.0
MONITOR_WEBHOOK_PAUSES_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
"""Between attempts; the last one repeats for as long as it takes."""
MONITOR_WEBHOOK_FLUSH_SECONDS = 10.0
"""How long a monitor that ends waits for its webhook; what is left is sent when it runs again."""

# Importing another tool's export
IMPORT_READ_BYTES = 65_536
IMPORT_ROW_MAX_CHARACTERS = 262_144
IMPORT_UNMAPPED_MAX = 100
"""Names of purposes that the mapping lacks, told of at a time."""
IMPORT_NAME_MAX_CHARACTERS = 64
"""Of such a name that are shown."""
IMPORT_BATCH_LINES = 1_000
IMPORT_SLICE_ROWS = 32
"""Rows that are read at a stretch while answers may be waiting."""
IMPORT_BATCH_MAX_BYTES = 4 * 1024 * 1024
IMPORT_PATIENCE_SECONDS = 300.0
"""How long the same batch is offered to a server that does not take it."""
IMPORT_PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Between the offers; the last one repeats."""
IMPORT_PAUSE_MAX_SECONDS = 30.0
"""Of what a server may ask for with Retry-After."""
IMPORT_FAILED_ATTEMPTS = 3
"""After so many answers that the server failed on it, a line is given up."""
IMPORT_CONNECT_TIMEOUT_SECONDS = 10.0
IMPORT_ANSWER_TIMEOUT_SECONDS = 60.0
"""Between two pieces of an answer."""
IMPORT_POLICY_MAX_BYTES = 4 * 1024 * 1024

# The processes of `up`
BINARY_VERSION_TIMEOUT_SECONDS = 10
CHILD_LOG_MAX_BYTES = 16 * 1024 * 1024
"""A longer log is put aside as `.1` when its process starts."""
CHILD_KILL_TIMEOUT_SECONDS = 5.0
ORPHAN_TIMEOUT_SECONDS = 5.0
EXEC_TIMEOUT_SECONDS = 0.1
"""A process just started shows its command line by then."""
INITDB_TIMEOUT_SECONDS = 120.0
POSTGRES_START_TIMEOUT_SECONDS = 60.0
"""Crash recovery of a long WAL is part of a start."""
POSTGRES_LOCK_RETRY_SECONDS = 10.0
"""How long a start is tried again while processes of a killed server still end ("lock file already exists")."""
POSTGRES_FAST_SHUTDOWN_SECONDS = 20.0
POSTGRES_IMMEDIATE_SHUTDOWN_SECONDS = 5.0
NATS_START_TIMEOUT_SECONDS = 30.0
NATS_GREETING_TIMEOUT_SECONDS = 2.0
NATS_SHUTDOWN_SECONDS = 10.0
SERVER_START_TIMEOUT_SECONDS = 60.0
SERVER_PROBE_TIMEOUT_SECONDS = 5.0
SERVER_SHUTDOWN_SECONDS = 30.0
"""`serve` answers what is in flight, then stops its worker, each within `SHUTDOWN_DRAIN_SECONDS`."""
RESTART_PAUSES_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Before a part of `up` that ended is started again; the last one repeats."""
RESTART_STEADY_SECONDS = 60.0
"""A part that ran this long has earned the shortest pause again."""

# Regions of requests
REGION_RELOAD_SECONDS = 30.0
"""How often it is looked whether the location file was replaced."""
REGION_DATABASE_MAX_BYTES = 1024 * 1024 * 1024
REGION_CHECK_MAX_BYTES = 4 * 1024 * 1024 * 1024
"""Of memory, address space included, for the process that reads a location file through before it is used."""
REGION_CHECK_TIMEOUT_SECONDS = 300
"""Six million networks take about half a minute."""
REGION_PROXIES_REMEMBERED = 256
"""Addresses of trusted proxies that need not be parsed again."""
REGION_DATABASE_OLD_SECONDS = 90 * 24 * 3600
"""Networks move: an older location file is told of."""

# The cookie inventory
COOKIES_MAX_NAMES = 1_000
"""Names that are kept of one site, of all storages."""
COOKIES_MAX_NAMES_PUBLISHABLE = 750
"""Of them by reports with publishable keys, which anybody can send: a crawler of the site's own has room beside."""
COOKIES_BODY_MAX_BYTES = 16_384
COOKIES_SEEN_SECONDS = 300.0
"""For so long a name that was noted needs no second note."""
COOKIES_SEEN_MAX = 50_000
"""Names, of all sites, that a process knows to be noted."""
COOKIES_RECENT_DAYS = 30
"""An undeclared name that was not seen for longer is no alarm any more."""
COOKIES_WATCH_SECONDS = 60.0
"""How often the figures of the inventories are brought up to date."""

# The lapser
LAPSE_BATCH_ROWS = 200
"""Visitors and accounts that are looked at, and told of in one append, at a time."""
LAPSE_SLICE_ROWS = 32
"""Of them, between which the other parts of the worker may go on."""
LAPSE_PASS_ROWS = 1_000
"""Rows of the state whose next moment is worked out at a time, after a version was published."""
LAPSE_IDLE_SECONDS = 1.0
"""How often it is looked whether something is due; what is known to be due sooner is looked at then."""
LAPSE_PAUSE_SECONDS = 0.02
LAPSE_REST_FACTOR = 1.0
"""How long the lapser rests after a round, in times of the round's own length."""
LAPSE_POSTPONE_SECONDS = 3_600
"""A row of which nothing can be told, for it cannot be read or recorded, is looked at again after this long."""
LAPSE_LATE_SECONDS = 60.0
"""A lapse that has waited for longer to be told is named in `/readyz` and by `doctor`."""

# Download links
DOWNLOAD_SECONDS = 60.0
"""A link that was not used by then never works again."""
DOWNLOADS_WAITING_MAX = 1_000
"""Links of one site that were made in the last minute."""
DOWNLOAD_SWEEP_SECONDS = 60.0
DOWNLOAD_BODY_MAX_BYTES = 4_096

# Exports of a whole site
WHOLE_PIECE_BYTES = 256 * 1024
"""Of its tar, on its way to whoever downloads it."""

# Exports of one person
PERSON_PAGE_EVENTS = 100
"""Events that are read, proven and written at a time: bounds memory, however much a person did."""
PERSON_PAGE_MAX_EVENTS = 2_000
"""Of a person's page, which is made whole; the JSON has any number."""
PERSON_PROOF_WAIT_SECONDS = 2.0
"""For a checkpoint that covers what was recorded a moment ago."""

# The vault
DATA_KEY_AHEAD_SECONDS = 60
"""How long before its first use an opening key is made: by then every process has seen it (SITE_REFRESH_SECONDS)."""
DATA_KEY_ATTEMPTS = 8
"""How often a number is taken for a new data key, while others make keys of the same site."""
DATA_KEY_PERIOD_DAYS = 30
"""How long one key seals openings: what was sealed before can be forgotten for good once nothing of it is left."""
DATA_KEY_MAX_ENTRIES = 2**30
"""A new one is made earlier where this many entries came; the database refuses twice as many."""
DATA_KEY_LOOK_SECONDS = 60.0
"""How often the worker looks whether a new key is due, or an old one can be destroyed."""

# Backups
BACKUP_PART_BYTES = 64 * 1024
"""Of what is sealed at a time, and of what is read at a time from where it comes."""
BACKUP_MAX_MEMBERS = 100_000
BACKUP_MEMBER_MAX_BYTES = 512 * 1024 * 1024
"""Of everything in a backup but the database: it is held in memory when it is put back."""
BACKUP_JOURNAL_SECONDS = 2.0
"""How often the worker brings what lies beside the backups up to date."""
BACKUP_JOURNAL_ROWS = 200
"""Entries that are read for it at a time."""
BACKUP_JOURNAL_EVENTS = 16_384
"""Erased events that are written to it at a time, or those of one entry; about 250 bytes each."""
BACKUP_JOURNAL_ENTRY_SECONDS = 2 * RELAY_HORIZON_SECONDS
"""Of a younger event that is erased its entry is kept, for the stream may lack it behind an older copy of the database.
A stream that was built again keeps the oldest that it got for another horizon."""
BACKUP_FILES_APART_SECONDS = 60
"""By how much the newest act may be younger than the orders beside it; beyond that the orders are an older copy."""
BACKUP_OLD_SECONDS = 3 * 24 * 3600
"""A newest backup that is older is told of by `doctor`."""

# Retention
SUPPRESS_FOR = "P3Y"
"""How long a denial outlives its record as a suppression mark, where the site document names no `suppressFor`."""
RETENTION_BLOCK_SEQS = 4_096
"""Entries for which it is noted together when one of them may be due."""
RETENTION_ROUND_BLOCKS = 64
"""Of them, that are looked at in one round; then another site has its turn."""
RETENTION_PAGE_SUBJECTS = 64
"""People whose events are read at a time."""
RETENTION_BATCH_EVENTS = 1_024
"""About so many events go with one erasure entry; an entry names at most 4,096."""
RETENTION_BATCH_PEOPLE = 256
RETENTION_THREAD_EVENTS = 256
"""Of one person; with more it is worked out aside what goes."""
RETENTION_IDLE_SECONDS = 60.0
"""How often it is looked whether something is due."""
RETENTION_TAIL_SECONDS = 3_600
"""How soon the newest entries, to which more come, are looked at again."""
RETENTION_PAUSE_SECONDS = 0.05
"""Between two batches, for those who record meanwhile."""
RETENTION_ATTEMPTS = 5
"""How often a batch is put together again in one round because somebody recorded something meanwhile."""
CLOSING_ORDERS_WAIT_SECONDS = 60.0
"""How long `site close` waits for the worker to carry out orders to erase somebody."""
RETENTION_REPORT_DAYS = 400
"""For so long it is told what each run took."""
RETENTION_ACTS_SECONDS = 24 * 3600
"""How often administrative logs are looked through for what is over its term."""
RETENTION_LATE_SECONDS = 24 * 3600
"""Something that has been due for longer is named by `doctor`."""

# Requests of people about their data
REQUEST_BODY_MAX_BYTES = 4_096
REQUEST_RECEIVED_MAX_DAYS = 3_653
"""A request that was received longer ago is a slip of the pen, and would be overdue for ever."""
REQUEST_CHALLENGE_SECONDS = 600
"""How long a browser may take to answer a challenge."""
REQUEST_TOKEN_SECONDS = 900
"""How long somebody who proved to be the visitor may read the request without proving it again."""
REQUESTS_OPEN_MAX = 10_000
"""Requests of one site that wait for their answer: a visitor id costs nothing, so many can be minted."""
REQUEST_ADDRESS_MAX = 30
"""Requests that one address may begin at one site at once: an office, or a telephone network, may be one address."""
REQUEST_ADDRESS_SECONDS = 60.0
"""After which it may begin one more."""
CALLERS_BUCKETS = 65_536
"""In which callers are counted, 8 bytes each: those who share one by chance share its tokens."""
REQUEST_PAGE_DEFAULT = 100
REQUEST_PAGE_MAX = 500
REQUEST_ANSWER_WITHIN = ("P30D", "P1M")
"""The shorter of these, where the site document does not say how soon a request is answered."""
REQUEST_EXTENSION = "P2M"
"""By how much such an answer may be put off where the GDPR may hold (article 12(3)); elsewhere not at all."""
REQUEST_DOWNLOAD_SECONDS = 30 * 24 * 3600
"""How long after the answer the visitor may fetch the data again."""
REQUEST_DETAILS_SECONDS = 3 * 365 * 24 * 3600
"""How long after the answer it is kept who asked, unless the person is erased before."""
REQUEST_IDLE_SECONDS = 1.0
"""How often it is looked whether a request was forwarded, or its erasure done."""
REQUEST_BATCH_ROWS = 50
REQUEST_FORGET_SECONDS = 3_600.0
"""How often requests are looked for that ended long ago."""
REQUEST_WATCH_SECONDS = 60.0
"""How often the figures of the registers are brought up to date."""
REQUEST_WEBHOOK_TIMEOUT_SECONDS = 10.0
REQUEST_WEBHOOK_PAUSES_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Between attempts to tell the controller; the last one repeats for as long as it takes."""

# Erasures
ERASURE_BLOCK_SECONDS = GRANT_MAX_AGE_SECONDS + 24 * 3600
"""For so long after an erasure nothing is recorded under the visitor's id, and a late retry is told of it: a browser
may send what it kept in its queue as long as grants are taken."""
ERASURE_HOLD_FOR = "P3Y"
"""How long proof is held, where the order does not say."""
ERASURE_HOLD_MAX_YEARS = 10
ERASURE_BODY_MAX_BYTES = 4_096
ERASURE_BATCH_MAX_PEOPLE = 100
"""Orders that are carried out together, whose ids one administrative act names."""
ERASURE_PAGE_EVENTS = 1_000
"""Events of one person that are read at a time."""
ERASURE_ATTEMPTS = 5
"""How often a batch is gathered anew, because something was recorded meanwhile, before it waits for the next round."""
ERASURE_IDLE_SECONDS = 1.0
ERASURE_PAUSE_SECONDS = 0.05
"""Between two entries, so that appends go on beside."""
ERASURE_SWEEP_SECONDS = 60.0
ERASURE_SWEEP_ROWS = 1_000
ERASURE_LATE_SECONDS = 3_600
"""An order that is due and was not carried out for so long is told of."""

# Certificates of erasures, and consumers who confirm them
CERTIFICATES_PAGE = 100
"""Erasures whose certificates are written at a time."""
CONFIRM_BODY_MAX_BYTES = 4_096
CONSUMERS_WATCH_SECONDS = 30.0
"""How often it is looked which consumers have not confirmed every erasure."""
CONSUMER_LATE_SECONDS = 24 * 3600
"""A consumer that has not confirmed an erasure for longer is named by `doctor`."""

# Administrative logs
ADMIN_LOG_PAGE_ACTS = 500
"""Acts that are read at a time."""
ADMIN_ADDRESS_DAYS = 365
"""An act that holds an address is erased when it is this old. Those on which erasures rest hold none, and stay."""
ADMIN_ACT_DAYS = 3_650
"""Any other act, likewise: an actor's name is personal data too. Ten years, for a claim may come so late."""
ADMIN_ERASE_BATCH_ACTS = 1_000
"""Acts that one erasure entry of an administrative log names at most."""
VERIFY_PENDING_SHOWN_ACTS = 20
"""Acts not carried out yet that `verify --admin` lists; the rest are counted."""

# Scrubbing: writing tables anew, from which something was erased
SCRUB_LOOK_SECONDS = 10.0
"""How often it is looked whether something was deleted since."""
SCRUB_LOCK_TIMEOUT_SECONDS = 1.0
"""For so long a rewriting waits for those who read; whoever comes meanwhile waits behind it."""
SCRUB_LOCK_ATTEMPTS = 20
SCRUB_LOCK_PAUSE_SECONDS = 1.0
"""Between attempts, so that appends go on beside."""
SCRUB_RETRY_SECONDS = 600.0
"""After the worker wrote a table anew in vain: an open transaction could still see what was erased, or held it."""
SCRUB_WORKER_MAX_BYTES = 256 * 1024 * 1024
"""A larger table the worker leaves to `consent-ledger scrub`, in an hour of your choice: all wait while one is written
anew, which takes some seconds for each 100 MB."""
SCRUB_MAX_SECONDS = 3_600.0
"""After which a rewriting is given up."""
SCRUB_LATE_FACTOR = 2.0
"""So many times LEDGER_SCRUB_HOURS after it was due, `doctor` tells of what is not rewritten yet."""
