#include "store/open.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "base/status.h"
#include "base/unique_fd.h"
#include "store/schema.h"

namespace sealift::store {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr int kBusyTimeoutMs = 500;

// SQLite gives its other files the mode of the first. An existing file is not opened here: closing
// a descriptor of it would drop the locks that this process may have on it.
absl::Status MakeFile(const std::string& path) {
  const base::UniqueFd fd(
      open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (fd.valid()) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    const base::UniqueFd parent(
        open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent.valid() || fsync(parent.get()) != 0) {
      return base::ErrnoStatus(fmt::format("sync the folder of store {}", path), errno);
    }
    return absl::OkStatus();
  }
  if (errno != EEXIST) return base::ErrnoStatus(fmt::format("create store {}", path), errno);
  if (chmod(path.c_str(), kFileMode) != 0) {
    return base::ErrnoStatus(fmt::format("set the mode of store {}", path), errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> QueryText(sqlite3* database, const char* sql) {
  Statement statement(database, sql);
  SEALIFT_RETURN_IF_ERROR(statement.Step().status());
  std::string text;
  statement.Column(text);
  return text;
}

absl::StatusOr<std::int64_t> QueryInteger(sqlite3* database, const char* sql) {
  Statement statement(database, sql);
  SEALIFT_RETURN_IF_ERROR(statement.Step().status());
  std::int64_t number = 0;
  statement.Column(number);
  return number;
}

absl::Status Configure(sqlite3* database) {
  sqlite3_busy_timeout(database, kBusyTimeoutMs);
  // Before the first access: the whole session then runs under one lock, without a shared-memory
  // file.
  SEALIFT_RETURN_IF_ERROR(Execute(database, "PRAGMA locking_mode = EXCLUSIVE"));
  SEALIFT_ASSIGN_OR_RETURN(const std::string mode,
                           QueryText(database, "PRAGMA journal_mode = WAL"));
  if (mode != "wal") {
    return absl::InternalError(
        fmt::format("the file system of store {} does not allow WAL (mode {})",
                    sqlite3_db_filename(database, "main"), mode));
  }
  SEALIFT_RETURN_IF_ERROR(Execute(database, "PRAGMA synchronous = FULL"));
  return Execute(database, "PRAGMA foreign_keys = ON");
}

absl::Status CheckWhole(sqlite3* database) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string verdict, QueryText(database, "PRAGMA quick_check(1)"));
  if (verdict == "ok") return absl::OkStatus();
  return absl::InternalError(fmt::format("store {} is damaged ({}): restore it from a backup",
                                         sqlite3_db_filename(database, "main"), verdict));
}

absl::Status Upgrade(sqlite3* database) {
  Transaction transaction(database);
  SEALIFT_RETURN_IF_ERROR(transaction.Begin());
  SEALIFT_ASSIGN_OR_RETURN(const std::int64_t version,
                           QueryInteger(database, "PRAGMA user_version"));
  const auto known = static_cast<std::int64_t>(kMigrations.size());
  if (version < 0 || version > known) {
    return absl::FailedPreconditionError(
        fmt::format("store {} has schema version {}, this sealift knows up to {}: it was used by a "
                    "newer sealift, install that one again",
                    sqlite3_db_filename(database, "main"), version, known));
  }
  for (auto next = static_cast<std::size_t>(version); next < kMigrations.size(); ++next) {
    SEALIFT_RETURN_IF_ERROR(Execute(database, kMigrations[next]));
  }
  if (version < known) {
    SEALIFT_RETURN_IF_ERROR(
        Execute(database, fmt::format("PRAGMA user_version = {}", known).c_str()));
  }
  return transaction.Commit();
}

}  // namespace

absl::StatusOr<Database> OpenDatabase(const std::string& path) {
  SEALIFT_RETURN_IF_ERROR(MakeFile(path));
  sqlite3* opened = nullptr;
  // Calls are serialised by the store's own mutex.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &opened, flags, nullptr);
  Database database(opened);
  if (code != SQLITE_OK) return DatabaseError(database.get(), fmt::format("open {}", path));
  SEALIFT_RETURN_IF_ERROR(Configure(database.get()));
  SEALIFT_RETURN_IF_ERROR(Upgrade(database.get()));
  SEALIFT_RETURN_IF_ERROR(CheckWhole(database.get()));
  return database;
}

}  // namespace sealift::store
