// How rows go into statements and come out of them; the order of columns is that of schema.h. For
// sqlite_store.cc only.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "store/statement.h"
#include "store/store.h"

// All of a migration but its number, in the order of ReadRow.
#define SEALIFT_SELECT_MIGRATION                                                       \
  "SELECT id, request_id, vm, source, destination, requested_by, mode, started, "      \
  "encrypted, decision_reason, cipher, aead_backend, engine, engine_reason, streams, " \
  "phase, detail, running_on, ram_total_bytes, ram_transferred_bytes, wire_bytes, "    \
  "downtime_ms, ended, queued, on_no_convergence, receipt FROM migrations "

namespace sealift::store {

inline constexpr char kInsertHost[] = "INSERT INTO hosts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
inline constexpr char kInsertVm[] = "INSERT INTO vms VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
inline constexpr char kInsertMigration[] =
    "INSERT INTO migrations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, "
    "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
inline constexpr char kUpdateMigration[] =
    "UPDATE migrations SET mode = ?, encrypted = ?, decision_reason = ?, cipher = ?, "
    "aead_backend = ?, engine = ?, engine_reason = ?, streams = ?, phase = ?, detail = ?, "
    "running_on = ?, "
    "ram_total_bytes = ?, ram_transferred_bytes = ?, wire_bytes = ?, downtime_ms = ?, ended = ?, "
    "queued = ? WHERE id = ?";

// BindProgress binds what kUpdateMigration may change after the mode, in its order.
inline void BindProgress(Statement& statement, const MigrationRow& row) {
  statement.Bind(row.encrypted, row.decision_reason, row.cipher, row.aead_backend, row.engine,
                 row.engine_reason, row.streams, row.phase, row.detail, row.running_on,
                 row.ram_total_bytes, row.ram_transferred_bytes, row.wire_bytes, row.downtime_ms,
                 row.ended, row.queued);
}

template <typename... Members>
void ReadColumns(Statement& from, Members&... members) {
  (from.Column(members), ...);
}

inline void ReadRow(Statement& from, HostRow& row) {
  ReadColumns(from, row.name, row.address, row.certificate_serial, row.certificate_not_after,
              row.created, row.last_seen, row.group, row.draining, row.dead_since, row.unheard,
              row.written_off);
}

inline void ReadRow(Statement& from, PolicyRow& row) {
  ReadColumns(from, row.group, row.floor, row.default_mode);
}

inline void ReadRow(Statement& from, UserRow& row) {
  ReadColumns(from, row.name, row.role, row.rights, row.created, row.request_sha256);
}

inline void ReadRow(Statement& from, VmRow& row) {
  ReadColumns(from, row.name, row.uuid, row.host, row.epoch, row.definition, row.encryption,
              row.policy_version, row.created, row.unconfirmed);
}

inline void ReadRow(Statement& from, MigrationRow& row) {
  ReadColumns(from, row.id, row.request_id, row.vm, row.source, row.destination, row.requested_by,
              row.mode, row.started, row.encrypted, row.decision_reason, row.cipher,
              row.aead_backend, row.engine, row.engine_reason, row.streams, row.phase, row.detail,
              row.running_on, row.ram_total_bytes, row.ram_transferred_bytes, row.wire_bytes,
              row.downtime_ms, row.ended, row.queued, row.on_no_convergence, row.receipt);
}

inline void ReadRow(Statement& from, RestoreRow& row) {
  ReadColumns(from, row.time, row.backup_made);
}

inline void ReadRow(Statement& from, EventRow& row) {
  ReadColumns(from, row.number, row.time, row.type, row.subject, row.actor, row.text);
}

// AllRows runs a SELECT to its end.
template <typename Row>
absl::StatusOr<std::vector<Row>> AllRows(Statement& select) {
  std::vector<Row> rows;
  for (;;) {
    SEALIFT_ASSIGN_OR_RETURN(const bool more, select.Step());
    if (!more) return rows;
    ReadRow(select, rows.emplace_back());
  }
}

// FirstRow gives the first row of a SELECT, if any.
template <typename Row>
absl::StatusOr<std::optional<Row>> FirstRow(Statement& select) {
  SEALIFT_ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return std::optional<Row>();
  std::optional<Row> row(std::in_place);
  ReadRow(select, *row);
  return row;
}

// OnlyRow gives the first row, or an error where there is none.
template <typename Row>
absl::StatusOr<Row> OnlyRow(Statement& select, const absl::Status& missing) {
  SEALIFT_ASSIGN_OR_RETURN(std::optional<Row> row, FirstRow<Row>(select));
  if (!row) return missing;
  return *std::move(row);
}

}  // namespace sealift::store
