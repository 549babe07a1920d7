-- Times are seconds since 1970. Names are compared byte for byte: COLLATE "C".
--
-- What is read and written whole is one JSON document; what is looked for,
-- counted down or must be unique has a column of its own.

-- One row: what is known of the database as a whole.
CREATE TABLE state (
    one          BIGINT           NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch        TEXT COLLATE "C" NOT NULL, -- random; made anew when a backup is restored or an earlier time accepted
    last_change  BIGINT           NOT NULL, -- the id of the newest change
    settings     BIGINT           NOT NULL, -- counted up by every change of groups and brokers
    signing_keys BIGINT           NOT NULL, -- counted up by every change of signing keys
    -- Statements that end before may have been used by those who knew more.
    statements_after BIGINT NOT NULL,
    clock_high       BIGINT NOT NULL, -- the latest time that was ever worked at
    max_token_lifetime_s BIGINT NOT NULL -- the longest that was ever allowed
);

INSERT INTO state VALUES (1, replace(gen_random_uuid()::text, '-', ''), 0, 0, 0, 0, 0, 0);

-- What other nodes have to hear of, in the order in which it was committed.
-- Old rows go: a node that has missed some reads everything anew.
CREATE TABLE changes (
    id   BIGINT           NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('device', 'devices', 'settings', 'root_keys', 'signing_keys', 'revocation')),
    name TEXT COLLATE "C" NOT NULL -- of the device; empty where there is none
);

-- Tokens that were taken back; a row goes when all that it names have died.
CREATE TABLE revocations (
    id         BIGINT           NOT NULL PRIMARY KEY, -- that of the change
    target     TEXT COLLATE "C" NOT NULL UNIQUE, -- its kind and name
    document   TEXT             NOT NULL, -- JSON
    expires_at BIGINT           NOT NULL
);

CREATE INDEX revocations_by_expiry ON revocations (expires_at);

CREATE TABLE groups (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    policy     TEXT             NOT NULL, -- JSON
    created_at BIGINT           NOT NULL,
    updated_at BIGINT           NOT NULL
);

CREATE TABLE devices (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    group_name TEXT COLLATE "C" NOT NULL REFERENCES groups (name),
    status     TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'enabled', 'disabled')),
    revision   BIGINT           NOT NULL, -- counted up by every change
    document   TEXT             NOT NULL, -- JSON
    created_at BIGINT           NOT NULL
);

CREATE INDEX devices_by_group ON devices (group_name, name);

CREATE TABLE brokers (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    resource   TEXT COLLATE "C" NOT NULL UNIQUE,
    revision   BIGINT           NOT NULL, -- counted up by every change
    document   TEXT             NOT NULL, -- JSON
    created_at BIGINT           NOT NULL
);

-- Every name of a device or broker and every MQTT client identifier that was
-- ever given out, and to whom. Rows are never deleted, so that no name comes
-- to mean another client.
CREATE TABLE names (
    name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    folded   TEXT COLLATE "C" NOT NULL, -- in lower case: no two clients differ by case alone
    client   TEXT COLLATE "C" NOT NULL,
    taken_at BIGINT           NOT NULL
);

CREATE INDEX names_by_folded ON names (folded);

-- The public keys of devices: none is of two devices.
CREATE TABLE device_keys (
    thumbprint TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    device     TEXT COLLATE "C" NOT NULL REFERENCES devices (name) ON DELETE CASCADE
);

CREATE INDEX device_keys_by_device ON device_keys (device);

-- When a credential was last good for a token.
CREATE TABLE credential_uses (
    client       TEXT COLLATE "C" NOT NULL,
    credential   TEXT COLLATE "C" NOT NULL,
    last_used_at BIGINT           NOT NULL,
    PRIMARY KEY (client, credential)
);

CREATE TABLE enrolments (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    token_hash BYTEA            NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    uses_left  BIGINT           NOT NULL CHECK (uses_left >= 0),
    document   TEXT             NOT NULL, -- JSON
    created_at BIGINT           NOT NULL
);

-- The signed statements (client assertions, proofs of possession) that were
-- accepted: each is good once.
CREATE TABLE used_jtis (
    id         BYTEA  NOT NULL PRIMARY KEY CHECK (octet_length(id) = 32),
    expires_at BIGINT NOT NULL
);

CREATE INDEX used_jtis_by_expiry ON used_jtis (expires_at);

-- The root keys that something may be under, by their IDs, which tell nothing of
-- them; everything new is under the current one.
CREATE TABLE root_keys (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    is_current BIGINT           NOT NULL CHECK (is_current IN (0, 1))
);
CREATE UNIQUE INDEX one_root_key_is_current ON root_keys (is_current) WHERE is_current = 1;

-- What all nodes have in common: one row, from when the first one starts.
CREATE TABLE terms (
    row                 BIGINT           NOT NULL PRIMARY KEY CHECK (row = 1),
    issuer              TEXT COLLATE "C" NOT NULL,
    propagation_bound_s BIGINT           NOT NULL
);

CREATE TABLE signing_keys (
    kid          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm    TEXT COLLATE "C" NOT NULL CHECK (algorithm IN ('ES256', 'RS256', 'EdDSA')),
    private      TEXT             NOT NULL, -- JSON: who keeps the private half, and how
    announced_at BIGINT           NOT NULL,
    active_at    BIGINT           NOT NULL,
    retired_at   BIGINT,
    dropped_at   BIGINT
);

-- What the validators of a broker said last.
CREATE TABLE reports (
    broker      TEXT COLLATE "C" NOT NULL REFERENCES brokers (name) ON DELETE CASCADE,
    instance    TEXT COLLATE "C" NOT NULL,
    secret      TEXT COLLATE "C" NOT NULL, -- with which of the broker's it came
    document    TEXT             NOT NULL, -- JSON
    reported_at BIGINT           NOT NULL,
    PRIMARY KEY (broker, instance)
);

-- How far each of them has told who is connected. Not in backups: it is only of
-- the present.
CREATE TABLE session_lists (
    broker    TEXT COLLATE "C" NOT NULL,
    instance  TEXT COLLATE "C" NOT NULL,
    epoch     BIGINT           NOT NULL, -- of the list, as the validator drew it
    next_part BIGINT           NOT NULL, -- the part that it has to go on with
    online    BIGINT           NOT NULL, -- how many rows of sessions it has
    PRIMARY KEY (broker, instance),
    FOREIGN KEY (broker, instance) REFERENCES reports (broker, instance) ON DELETE CASCADE
);

-- Who is connected, written as it changes. Not in backups either.
CREATE TABLE sessions (
    broker    TEXT COLLATE "C" NOT NULL,
    instance  TEXT COLLATE "C" NOT NULL,
    client_id TEXT COLLATE "C" NOT NULL,
    since     BIGINT           NOT NULL,
    until     BIGINT           NOT NULL,
    PRIMARY KEY (broker, instance, client_id),
    FOREIGN KEY (broker, instance) REFERENCES session_lists (broker, instance) ON DELETE CASCADE
);

CREATE INDEX sessions_by_client ON sessions (client_id);
