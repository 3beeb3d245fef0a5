#include "store/statement.h"

#include <fmt/format.h>

#include "base/check.h"
#include "base/status.h"

namespace sealift::store {
namespace {

std::string PathOf(sqlite3* database) {
  const char* path = sqlite3_db_filename(database, "main");
  return path == nullptr ? "" : path;
}

// RemedyFor says what an operator can do about an error of SQLite.
std::string RemedyFor(int code) {
  switch (code) {
    case SQLITE_FULL:
      return "the file system is full: free some space";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "another process has it open: stop it, one controller owns a store";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return "the file is damaged or not a store of sealift: restore it from a backup";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return "check owner and mode of the file and of its folder";
    case SQLITE_IOERR:
      return "check the disk and its file system";
    default:
      return "";
  }
}

absl::StatusCode CodeFor(int extended) {
  switch (extended) {
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kFailedPrecondition;
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
      return absl::StatusCode::kAlreadyExists;
    case SQLITE_CONSTRAINT_FOREIGNKEY:
      return absl::StatusCode::kNotFound;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status DatabaseError(sqlite3* database, std::string_view what) {
  int code = sqlite3_errcode(database);
  int extended = sqlite3_extended_errcode(database);
  // SQLite's name for a disk without room for the small file that readers and writer share.
  if (extended == SQLITE_IOERR_SHMSIZE) code = extended = SQLITE_FULL;
  std::string text =
      fmt::format("store {}: {} ({})", PathOf(database), sqlite3_errmsg(database), what);
  const std::string remedy = RemedyFor(code);
  if (!remedy.empty()) text += "; " + remedy;
  return absl::Status(CodeFor(extended), text);
}

absl::Status Execute(sqlite3* database, const char* sql) {
  if (sqlite3_exec(database, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return absl::OkStatus();
  return DatabaseError(database, sql);
}

Statement::Statement(sqlite3* database, const char* sql) : database_(database), sql_(sql) {
  sqlite3_stmt* statement = nullptr;
  code_ = sqlite3_prepare_v2(database, sql, -1, &statement, nullptr);
  statement_.reset(statement);
}

void Statement::BindNext(const std::string& value) {
  if (code_ != SQLITE_OK) return;
  code_ = sqlite3_bind_text64(statement_.get(), ++bound_, value.data(), value.size(), SQLITE_STATIC,
                              SQLITE_UTF8);
}

void Statement::BindInteger(std::int64_t value) {
  if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_.get(), ++bound_, value);
}

absl::StatusOr<bool> Statement::Step() {
  if (code_ != SQLITE_OK) return Error();
  column_ = 0;
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result == SQLITE_DONE) return false;
  code_ = result;
  return Error();
}

absl::StatusOr<int> Statement::Run() {
  SEALIFT_RETURN_IF_ERROR(Step().status());
  return sqlite3_changes(database_);
}

void Statement::Column(std::string& to) {
  SEALIFT_CHECK(column_ < sqlite3_column_count(statement_.get()));
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column_));
  to.assign(text == nullptr ? "" : text,
            static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column_)));
  ++column_;
}

std::int64_t Statement::NextInteger() {
  SEALIFT_CHECK(column_ < sqlite3_column_count(statement_.get()));
  return sqlite3_column_int64(statement_.get(), column_++);
}

Transaction::~Transaction() {
  if (open_) sqlite3_exec(database_, "ROLLBACK", nullptr, nullptr, nullptr);
}

absl::Status Transaction::Begin() {
  SEALIFT_RETURN_IF_ERROR(Execute(database_, "BEGIN IMMEDIATE"));
  open_ = true;
  return absl::OkStatus();
}

absl::Status Transaction::Commit() {
  SEALIFT_RETURN_IF_ERROR(Execute(database_, "COMMIT"));
  open_ = false;
  return absl::OkStatus();
}

}  // namespace sealift::store
