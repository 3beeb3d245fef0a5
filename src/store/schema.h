// The tables of the store, one migration per version: kMigrations[i] leads from version i to i + 1
// (PRAGMA user_version). A published entry is never changed; a new version is appended.
#pragma once

#include <array>

namespace sealift::store {

inline constexpr std::array kMigrations = {
    R"sql(
CREATE TABLE hosts (
  name                  TEXT PRIMARY KEY,
  address               TEXT NOT NULL,
  certificate_serial    TEXT NOT NULL,
  certificate_not_after INTEGER NOT NULL,
  created               INTEGER NOT NULL,
  last_seen             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE join_tokens (
  host          TEXT PRIMARY KEY REFERENCES hosts(name) ON DELETE CASCADE,
  secret_sha256 TEXT NOT NULL,
  expires       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revoked_certificates (
  serial TEXT PRIMARY KEY,
  time   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE vms (
  name           TEXT PRIMARY KEY,
  uuid           TEXT NOT NULL UNIQUE,
  host           TEXT NOT NULL REFERENCES hosts(name),
  epoch          INTEGER NOT NULL,
  definition     TEXT NOT NULL,
  encryption     TEXT NOT NULL,
  policy_version INTEGER NOT NULL,
  created        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX vms_by_host ON vms(host);

CREATE TABLE migrations (
  number                INTEGER PRIMARY KEY AUTOINCREMENT,
  id                    TEXT NOT NULL UNIQUE,
  request_id            TEXT NOT NULL,
  vm                    TEXT NOT NULL,
  source                TEXT NOT NULL,
  destination           TEXT NOT NULL,
  requested_by          TEXT NOT NULL,
  mode                  TEXT NOT NULL,
  started               INTEGER NOT NULL,
  encrypted             INTEGER NOT NULL,
  decision_reason       TEXT NOT NULL,
  cipher                TEXT NOT NULL,
  aead_backend          TEXT NOT NULL,
  engine                TEXT NOT NULL,
  engine_reason         TEXT NOT NULL,
  streams               INTEGER NOT NULL,
  phase                 TEXT NOT NULL,
  detail                TEXT NOT NULL,
  running_on            TEXT NOT NULL,
  ram_total_bytes       INTEGER NOT NULL,
  ram_transferred_bytes INTEGER NOT NULL,
  wire_bytes            INTEGER NOT NULL,
  downtime_ms           INTEGER NOT NULL,
  ended                 INTEGER NOT NULL
) STRICT;
CREATE INDEX migrations_by_vm ON migrations(vm);
CREATE UNIQUE INDEX one_running_migration_per_vm ON migrations(vm) WHERE ended = 0;
CREATE UNIQUE INDEX one_migration_per_request ON migrations(request_id) WHERE request_id <> '';

CREATE TABLE events (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  time    INTEGER NOT NULL,
  type    TEXT NOT NULL,
  subject TEXT NOT NULL,
  actor   TEXT NOT NULL,
  text    TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events(subject, number);
)sql",
    // Users and their certificates, groups of hosts, floors and default modes.
    R"sql(
ALTER TABLE hosts ADD COLUMN host_group TEXT NOT NULL DEFAULT '';
ALTER TABLE hosts ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;

CREATE TABLE policies (
  host_group   TEXT PRIMARY KEY,
  floor        TEXT NOT NULL,
  default_mode TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  name    TEXT PRIMARY KEY,
  role    TEXT NOT NULL,
  rights  TEXT NOT NULL,
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE user_certificates (
  serial    TEXT PRIMARY KEY,
  user      TEXT NOT NULL REFERENCES users(name) ON DELETE CASCADE,
  not_after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_user ON user_certificates(user);

CREATE INDEX migrations_by_start ON migrations(started);
)sql",
    // Hosts that were confirmed dead; migrations that wait for their turn.
    R"sql(
ALTER TABLE hosts ADD COLUMN dead_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE migrations ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE migrations ADD COLUMN on_no_convergence TEXT NOT NULL DEFAULT '';
)sql",
    // The request that made a user, so that its repetition is known.
    R"sql(
ALTER TABLE users ADD COLUMN request_sha256 TEXT NOT NULL DEFAULT '';
)sql",
    // What a destination has to show that says that its source has committed.
    R"sql(
ALTER TABLE migrations ADD COLUMN receipt TEXT NOT NULL DEFAULT '';
)sql",
    // Restores from a backup and what is not known since; how far the epochs of deleted VMs had
    // come.
    R"sql(
ALTER TABLE hosts ADD COLUMN unheard INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vms ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;

CREATE TABLE restores (
  time        INTEGER NOT NULL,
  backup_made INTEGER NOT NULL
) STRICT;

CREATE TABLE past_epochs (
  vm    TEXT PRIMARY KEY,
  epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
)sql",
    // A host that was confirmed dead and is seen again is alive before it is compared.
    R"sql(
ALTER TABLE hosts ADD COLUMN written_off INTEGER NOT NULL DEFAULT 0;
UPDATE hosts SET written_off = 1 WHERE dead_since <> 0;
)sql",
};

}  // namespace sealift::store
