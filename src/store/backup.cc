#include "store/backup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "store/open.h"
#include "store/statement.h"

namespace sealift::store {
namespace {

// Tells file(1), and ReadBackup, what it is: "SLBK" (PRAGMA application_id).
constexpr std::uint32_t kBackupId = 0x534c424b;

constexpr char kAddFiles[] = R"sql(
CREATE TABLE backup (made INTEGER NOT NULL) STRICT;
CREATE TABLE backup_files (name TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT, WITHOUT ROWID;
)sql";
constexpr char kDropFiles[] = "DROP TABLE backup; DROP TABLE backup_files";

// Draft is a file that is removed again unless it is published.
class Draft {
 public:
  explicit Draft(std::string path) : path_(std::move(path)) {}
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  ~Draft() {
    if (!published_) unlink(path_.c_str());
  }

  // Make creates it, empty and for its owner only.
  [[nodiscard]] absl::Status Make() {
    const base::UniqueFd fd(mkostemp(path_.data(), O_CLOEXEC));
    if (fd.valid()) return absl::OkStatus();
    return base::ErrnoStatus(fmt::format("create {}", path_), errno);
  }

  [[nodiscard]] absl::Status Publish(const std::string& name) {
    SEALIFT_RETURN_IF_ERROR(base::PublishFile(path_, name));
    published_ = true;
    return absl::OkStatus();
  }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  bool published_ = false;
};

// CopyInto writes a compact copy into an empty file. Nothing of what was deleted is in it.
absl::Status CopyInto(sqlite3* database, const std::string& path) {
  Statement copy(database, "VACUUM INTO ?");
  return copy.Bind(path).Run().status();
}

// A copy is written without a journal: it is thrown away when that fails.
absl::StatusOr<Database> OpenCopy(const std::string& path) {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READWRITE, nullptr);
  Database database(opened);
  if (code != SQLITE_OK) return DatabaseError(opened, fmt::format("open {}", path));
  SEALIFT_RETURN_IF_ERROR(Execute(opened, "PRAGMA synchronous = OFF"));
  SEALIFT_RETURN_IF_ERROR(QueryText(opened, "PRAGMA journal_mode = OFF").status());
  SEALIFT_RETURN_IF_ERROR(QueryText(opened, "PRAGMA secure_delete = ON").status());
  return database;
}

absl::Status AddFiles(const std::string& path, const Backup& backup) {
  SEALIFT_ASSIGN_OR_RETURN(const Database copy, OpenCopy(path));
  SEALIFT_RETURN_IF_ERROR(Execute(copy.get(), kAddFiles));
  Statement made(copy.get(), "INSERT INTO backup VALUES (?)");
  SEALIFT_RETURN_IF_ERROR(made.Bind(backup.made).Run().status());
  for (const BackupFile& file : backup.files) {
    Statement insert(copy.get(), "INSERT INTO backup_files VALUES (?, ?)");
    SEALIFT_RETURN_IF_ERROR(insert.Bind(file.name, file.content).Run().status());
  }
  return Execute(copy.get(), fmt::format("PRAGMA application_id = {}", kBackupId).c_str());
}

// The file's first bytes (https://www.sqlite.org/fileformat.html): SQLite reads nothing of a file
// that lacks its end.
absl::StatusOr<bool> SaysThatItIsOne(const std::string& path) {
  constexpr std::string_view kMagic("SQLite format 3\0", 16);
  constexpr std::size_t kIdAt = 68;
  const base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return base::ErrnoStatus(fmt::format("open {}", path), errno);
  std::array<char, kIdAt + sizeof(std::uint32_t)> head{};
  if (pread(fd.get(), head.data(), head.size(), 0) < 0) {
    return base::ErrnoStatus(fmt::format("read {}", path), errno);
  }
  const std::string_view text(head.data(), head.size());
  return text.starts_with(kMagic) &&
         base::LoadBig<std::uint32_t>(base::AsBytes(text.substr(kIdAt))) == kBackupId;
}

// OpenBackup opens what says that it is one.
absl::StatusOr<Database> OpenBackup(const std::string& from) {
  SEALIFT_ASSIGN_OR_RETURN(const bool is_one, SaysThatItIsOne(from));
  if (is_one) return OpenForReading(from);
  return absl::InvalidArgumentError(fmt::format(
      "{} is not a backup of a controller: name a file that sealift-controllerd backup made",
      from));
}

absl::Status CheckWhole(sqlite3* database, const std::string& from) {
  const absl::StatusOr<std::string> verdict = QueryText(database, "PRAGMA integrity_check(1)");
  if (!verdict.ok() || *verdict != "ok") {
    return absl::InternalError(
        fmt::format("backup {} is damaged ({}): take another one", from,
                    verdict.ok() ? *verdict : base::MessageOf(verdict.status())));
  }
  Statement dangling(database, "PRAGMA foreign_key_check");
  SEALIFT_ASSIGN_OR_RETURN(const bool found, dangling.Step());
  if (!found) return absl::OkStatus();
  return absl::InternalError(fmt::format(
      "backup {} is damaged (a row refers to one that is missing): take another one", from));
}

absl::StatusOr<std::vector<BackupFile>> FilesIn(sqlite3* database) {
  Statement select(database, "SELECT name, content FROM backup_files ORDER BY name");
  std::vector<BackupFile> files;
  for (;;) {
    SEALIFT_ASSIGN_OR_RETURN(const bool more, select.Step());
    if (!more) return files;
    BackupFile& file = files.emplace_back();
    select.Column(file.name);
    select.Column(file.content);
  }
}

}  // namespace

absl::Status WriteBackup(const std::string& database, const Backup& backup, const std::string& to) {
  SEALIFT_ASSIGN_OR_RETURN(const Database store, OpenForReading(database));
  SEALIFT_RETURN_IF_ERROR(SchemaVersion(store.get()).status());
  Draft draft(to + ".XXXXXX");
  SEALIFT_RETURN_IF_ERROR(draft.Make());
  SEALIFT_RETURN_IF_ERROR(CopyInto(store.get(), draft.path()));
  SEALIFT_RETURN_IF_ERROR(AddFiles(draft.path(), backup));
  return draft.Publish(to);
}

absl::StatusOr<Backup> ReadBackup(const std::string& from) {
  SEALIFT_ASSIGN_OR_RETURN(const Database database, OpenBackup(from));
  SEALIFT_RETURN_IF_ERROR(SchemaVersion(database.get()).status());
  SEALIFT_RETURN_IF_ERROR(CheckWhole(database.get(), from));
  Backup backup;
  SEALIFT_ASSIGN_OR_RETURN(backup.made, QueryInteger(database.get(), "SELECT made FROM backup"));
  SEALIFT_ASSIGN_OR_RETURN(backup.files, FilesIn(database.get()));
  return backup;
}

absl::Status ExtractStore(const std::string& from, const std::string& to) {
  SEALIFT_ASSIGN_OR_RETURN(const Database backup, OpenBackup(from));
  const base::UniqueFd made(
      open(to.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!made.valid()) return base::ErrnoStatus(fmt::format("create {}", to), errno);
  SEALIFT_RETURN_IF_ERROR(CopyInto(backup.get(), to));
  SEALIFT_ASSIGN_OR_RETURN(const Database store, OpenCopy(to));
  SEALIFT_RETURN_IF_ERROR(Execute(store.get(), kDropFiles));
  return Execute(store.get(), "PRAGMA application_id = 0");
}

}  // namespace sealift::store
