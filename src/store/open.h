// Opening the file: locks, settings, schema. For sqlite_store.cc only.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "store/statement.h"

namespace sealift::store {

// OwnedDatabase is a connection and the lock that keeps other owners out, which goes last.
struct OwnedDatabase {
  base::UniqueFd lock;
  Database database;
};

// OpenDatabase gives a connection that is ready for use, to a file that is there or is made.
[[nodiscard]] absl::StatusOr<OwnedDatabase> OpenDatabase(const std::string& path);

// OpenForReading gives a connection that never writes to the file, whoever owns it.
[[nodiscard]] absl::StatusOr<Database> OpenForReading(const std::string& path);

// SchemaVersion is that of the file; FAILED_PRECONDITION for one of a newer sealift.
[[nodiscard]] absl::StatusOr<std::int64_t> SchemaVersion(sqlite3* database);

// QueryText and QueryInteger give the first column of the first row.
[[nodiscard]] absl::StatusOr<std::string> QueryText(sqlite3* database, const char* sql);
[[nodiscard]] absl::StatusOr<std::int64_t> QueryInteger(sqlite3* database, const char* sql);

}  // namespace sealift::store
