-- Times are seconds since 1970. Names are compared byte for byte.

CREATE TABLE groups (
    name             TEXT    NOT NULL PRIMARY KEY,
    publish          TEXT    NOT NULL, -- a JSON array of filters with placeholders
    subscribe        TEXT    NOT NULL, -- a JSON array of filters with placeholders
    scope            TEXT    NOT NULL,
    audience         TEXT    NOT NULL,
    token_lifetime_s INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    name       TEXT    NOT NULL PRIMARY KEY,
    group_name TEXT    NOT NULL REFERENCES groups (name),
    status     TEXT    NOT NULL CHECK (status IN ('enabled', 'disabled')),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX devices_by_group ON devices (group_name);

-- Every device name and MQTT client identifier that was ever given out, and to
-- which device. Rows are never deleted, so that no name comes to mean another
-- device.
CREATE TABLE names (
    name     TEXT    NOT NULL PRIMARY KEY,
    device   TEXT    NOT NULL,
    taken_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mqtt_client_ids (
    device         TEXT    NOT NULL REFERENCES devices (name) ON DELETE CASCADE,
    position       INTEGER NOT NULL, -- 0 is the default
    mqtt_client_id TEXT    NOT NULL UNIQUE REFERENCES names (name),
    PRIMARY KEY (device, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    id           INTEGER NOT NULL PRIMARY KEY,
    device       TEXT    NOT NULL REFERENCES devices (name) ON DELETE CASCADE,
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE INDEX secrets_by_device ON secrets (device);

CREATE TABLE signing_keys (
    kid          TEXT    NOT NULL PRIMARY KEY,
    sealed       BLOB    NOT NULL, -- the private key, encrypted under the root key
    announced_at INTEGER NOT NULL,
    active_at    INTEGER NOT NULL,
    retired_at   INTEGER,
    dropped_at   INTEGER
) STRICT, WITHOUT ROWID;
