// Backups of a store: one SQLite file that is the store and, in a table of its own, other small
// files of the controller's state. It can be looked at with sqlite3(1).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::store {

// BackupFile is a text file that goes along.
struct BackupFile {
  std::string name;
  std::string content;
};

// Backup is what one holds besides the store.
struct Backup {
  std::int64_t made = 0;  // milliseconds since 1970
  std::vector<BackupFile> files;
};

// WriteBackup copies the store at `database`, as it is at one moment, also while its owner works
// with it. `to` (mode 0600) is there whole and durably, or not at all; ALREADY_EXISTS when it was
// there before.
[[nodiscard]] absl::Status WriteBackup(const std::string& database, const Backup& backup,
                                       const std::string& to);

// ReadBackup reads one and checks it whole. INVALID_ARGUMENT for a file that is none, INTERNAL for
// a damaged one, FAILED_PRECONDITION for one of a newer sealift.
[[nodiscard]] absl::StatusOr<Backup> ReadBackup(const std::string& from);

// ExtractStore makes the store of a backup at `to`, which must not be there. It is not synced.
[[nodiscard]] absl::Status ExtractStore(const std::string& from, const std::string& to);

}  // namespace sealift::store
