-- Times are seconds since 1970. Names are compared byte for byte.
--
-- What is read and written whole is one JSON document; what is looked for,
-- counted down or must be unique has a column of its own.

-- One row: what is known of the database as a whole.
CREATE TABLE state (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch         TEXT    NOT NULL, -- random; made anew when a backup is restored or an earlier time accepted
    last_change   INTEGER NOT NULL, -- the id of the newest change
    settings      INTEGER NOT NULL, -- counted up by every change of groups and brokers
    signing_keys  INTEGER NOT NULL, -- counted up by every change of signing keys
    -- Statements that end before may have been used by those who knew more.
    statements_after INTEGER NOT NULL,
    clock_high       INTEGER NOT NULL, -- the latest time that was ever worked at
    max_token_lifetime_s INTEGER NOT NULL -- the longest that was ever allowed
) STRICT;

INSERT INTO state VALUES (1, lower(hex(randomblob(16))), 0, 0, 0, 0, 0, 0);

-- What other nodes have to hear of, in the order in which it was committed.
-- Old rows go: a node that has missed some reads everything anew.
CREATE TABLE changes (
    id   INTEGER NOT NULL PRIMARY KEY,
    kind TEXT    NOT NULL CHECK (kind IN ('device', 'devices', 'settings', 'root_keys', 'signing_keys', 'revocation')),
    name TEXT    NOT NULL -- of the device; empty where there is none
) STRICT;

-- Tokens that were taken back; a row goes when all that it names have died.
CREATE TABLE revocations (
    id         INTEGER NOT NULL PRIMARY KEY, -- that of the change
    target     TEXT    NOT NULL UNIQUE,      -- its kind and name
    document   TEXT    NOT NULL,             -- JSON
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX revocations_by_expiry ON revocations (expires_at);

CREATE TABLE groups (
    name       TEXT    NOT NULL PRIMARY KEY,
    policy     TEXT    NOT NULL, -- JSON
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    name       TEXT    NOT NULL PRIMARY KEY,
    group_name TEXT    NOT NULL REFERENCES groups (name),
    status     TEXT    NOT NULL CHECK (status IN ('pending', 'enabled', 'disabled')),
    revision   INTEGER NOT NULL, -- counted up by every change
    document   TEXT    NOT NULL, -- JSON
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_by_group ON devices (group_name, name);

CREATE TABLE brokers (
    name       TEXT    NOT NULL PRIMARY KEY,
    resource   TEXT    NOT NULL UNIQUE,
    revision   INTEGER NOT NULL, -- counted up by every change
    document   TEXT    NOT NULL, -- JSON
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Every name of a device or broker and every MQTT client identifier that was
-- ever given out, and to whom. Rows are never deleted, so that no name comes
-- to mean another client.
CREATE TABLE names (
    name     TEXT    NOT NULL PRIMARY KEY,
    folded   TEXT    NOT NULL, -- in lower case: no two clients differ by case alone
    client   TEXT    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX names_by_folded ON names (folded);

-- The public keys of devices: none is of two devices.
CREATE TABLE device_keys (
    thumbprint TEXT NOT NULL PRIMARY KEY,
    device     TEXT NOT NULL REFERENCES devices (name) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX device_keys_by_device ON device_keys (device);

-- When a credential was last good for a token.
CREATE TABLE credential_uses (
    client       TEXT    NOT NULL,
    credential   TEXT    NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (client, credential)
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolments (
    id         TEXT    NOT NULL PRIMARY KEY,
    token_hash BLOB    NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    uses_left  INTEGER NOT NULL CHECK (uses_left >= 0),
    document   TEXT    NOT NULL, -- JSON
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The signed statements (client assertions, proofs of possession) that were
-- accepted: each is good once.
CREATE TABLE used_jtis (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_jtis_by_expiry ON used_jtis (expires_at);

-- The root keys that something may be under, by their IDs, which tell nothing of
-- them; everything new is under the current one.
CREATE TABLE root_keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    is_current INTEGER NOT NULL CHECK (is_current IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX one_root_key_is_current ON root_keys (is_current) WHERE is_current = 1;

-- What all nodes have in common: one row, from when the first one starts.
CREATE TABLE terms (
    row                 INTEGER NOT NULL PRIMARY KEY CHECK (row = 1),
    issuer              TEXT    NOT NULL,
    propagation_bound_s INTEGER NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    kid          TEXT    NOT NULL PRIMARY KEY,
    algorithm    TEXT    NOT NULL CHECK (algorithm IN ('ES256', 'RS256', 'EdDSA')),
    private      TEXT    NOT NULL, -- JSON: who keeps the private half, and how
    announced_at INTEGER NOT NULL,
    active_at    INTEGER NOT NULL,
    retired_at   INTEGER,
    dropped_at   INTEGER
) STRICT, WITHOUT ROWID;

-- What the validators of a broker said last.
CREATE TABLE reports (
    broker      TEXT    NOT NULL REFERENCES brokers (name) ON DELETE CASCADE,
    instance    TEXT    NOT NULL,
    secret      TEXT    NOT NULL, -- with which of the broker's it came
    document    TEXT    NOT NULL, -- JSON
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (broker, instance)
) STRICT, WITHOUT ROWID;

-- How far each of them has told who is connected. Not in backups: it is only of
-- the present.
CREATE TABLE session_lists (
    broker    TEXT    NOT NULL,
    instance  TEXT    NOT NULL,
    epoch     INTEGER NOT NULL, -- of the list, as the validator drew it
    next_part INTEGER NOT NULL, -- the part that it has to go on with
    online    INTEGER NOT NULL, -- how many rows of sessions it has
    PRIMARY KEY (broker, instance),
    FOREIGN KEY (broker, instance) REFERENCES reports (broker, instance) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Who is connected, written as it changes. Not in backups either.
CREATE TABLE sessions (
    broker    TEXT    NOT NULL,
    instance  TEXT    NOT NULL,
    client_id TEXT    NOT NULL,
    since     INTEGER NOT NULL,
    until     INTEGER NOT NULL,
    PRIMARY KEY (broker, instance, client_id),
    FOREIGN KEY (broker, instance) REFERENCES session_lists (broker, instance) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_client ON sessions (client_id);
