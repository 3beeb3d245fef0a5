#include "store/open.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "base/status.h"
#include "store/schema.h"

namespace sealift::store {
namespace {

constexpr mode_t kFileMode = 0600;
// Only a backup ever reads beside the owner, and it holds no lock for long.
constexpr int kBusyTimeoutMs = 5000;

// An owner locks the folder: closing any other descriptor of the file itself would drop the locks
// that SQLite has on it.
absl::StatusOr<base::UniqueFd> LockFolder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  base::UniqueFd fd(
      open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid())
    return base::ErrnoStatus(fmt::format("open the folder of store {}", path), errno);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return base::ErrnoStatus(fmt::format("lock store {}", path), errno);
  return absl::FailedPreconditionError(fmt::format(
      "store {}: another process has it open: stop it, one controller owns a store", path));
}

// SQLite gives its other files the mode of the first.
absl::Status MakeFile(const std::string& path, const base::UniqueFd& folder) {
  const base::UniqueFd fd(
      open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, kFileMode));
  if (fd.valid()) {
    if (fsync(folder.get()) == 0) return absl::OkStatus();
    return base::ErrnoStatus(fmt::format("sync the folder of store {}", path), errno);
  }
  if (errno != EEXIST) return base::ErrnoStatus(fmt::format("create store {}", path), errno);
  if (chmod(path.c_str(), kFileMode) != 0) {
    return base::ErrnoStatus(fmt::format("set the mode of store {}", path), errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<Database> Connect(const std::string& path, int flags) {
  sqlite3* opened = nullptr;
  // Calls are serialised by whoever holds the connection.
  const int code = sqlite3_open_v2(path.c_str(), &opened, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  Database database(opened);
  if (code != SQLITE_OK) return DatabaseError(database.get(), fmt::format("open {}", path));
  sqlite3_busy_timeout(database.get(), kBusyTimeoutMs);
  return database;
}

absl::Status Configure(sqlite3* database) {
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
  SEALIFT_ASSIGN_OR_RETURN(const std::int64_t version, SchemaVersion(database));
  const auto known = static_cast<std::int64_t>(kMigrations.size());
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

absl::StatusOr<std::int64_t> SchemaVersion(sqlite3* database) {
  SEALIFT_ASSIGN_OR_RETURN(const std::int64_t version,
                           QueryInteger(database, "PRAGMA user_version"));
  const auto known = static_cast<std::int64_t>(kMigrations.size());
  if (version >= 0 && version <= known) return version;
  return absl::FailedPreconditionError(
      fmt::format("store {} has schema version {}, this sealift knows up to {}: it was used by a "
                  "newer sealift, install that one again",
                  sqlite3_db_filename(database, "main"), version, known));
}

absl::StatusOr<OwnedDatabase> OpenDatabase(const std::string& path) {
  SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd lock, LockFolder(path));
  SEALIFT_RETURN_IF_ERROR(MakeFile(path, lock));
  SEALIFT_ASSIGN_OR_RETURN(Database database, Connect(path, SQLITE_OPEN_READWRITE));
  SEALIFT_RETURN_IF_ERROR(Configure(database.get()));
  SEALIFT_RETURN_IF_ERROR(Upgrade(database.get()));
  SEALIFT_RETURN_IF_ERROR(CheckWhole(database.get()));
  return OwnedDatabase{std::move(lock), std::move(database)};
}

absl::StatusOr<Database> OpenForReading(const std::string& path) {
  SEALIFT_ASSIGN_OR_RETURN(Database database, Connect(path, SQLITE_OPEN_READONLY));
  // What is in the log stays there, also when nobody else has the file open.
  sqlite3_db_config(database.get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  return database;
}

}  // namespace sealift::store
