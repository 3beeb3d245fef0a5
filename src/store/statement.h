// A thin owner of SQLite's two objects, for sqlite_store.cc only.
#pragma once

#include <sqlite3.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::store {

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

// DatabaseError turns the last error of a connection into a status that says what was attempted and
// what to do about it.
[[nodiscard]] absl::Status DatabaseError(sqlite3* database, std::string_view what);

// Execute runs SQL text without parameters or results.
[[nodiscard]] absl::Status Execute(sqlite3* database, const char* sql);

// Statement is one prepared statement with its values. Values are bound in the order of the
// question marks, columns read in the order of the SELECT. The first error sticks and is returned
// by Step or Run. Not thread-safe.
class Statement {
 public:
  // `sql` must outlive the statement (it is a literal).
  Statement(sqlite3* database, const char* sql);
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // Bind binds the next values, from the first question mark on. Text must live until the statement
  // has run.
  template <typename... Values>
  Statement& Bind(const Values&... values) {
    (BindNext(values), ...);
    return *this;
  }

  // Step goes to the next row; false: there is none.
  [[nodiscard]] absl::StatusOr<bool> Step();
  // Run executes a statement that gives no rows and returns how many it changed.
  [[nodiscard]] absl::StatusOr<int> Run();

  // Column reads the next column of the current row into a member of a row.
  void Column(std::string& to);
  template <std::integral Integer>
  void Column(Integer& to) {
    to = static_cast<Integer>(NextInteger());
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  // Text is not copied: it must live until Step or Run has returned.
  void BindNext(const std::string& value);
  // NOLINTNEXTLINE(modernize-use-equals-delete): an overload of a private function
  void BindNext(const char* value) = delete;
  void BindNext(std::integral auto value) { BindInteger(static_cast<std::int64_t>(value)); }
  void BindInteger(std::int64_t value);
  std::int64_t NextInteger();
  absl::Status Error() const { return DatabaseError(database_, sql_); }

  sqlite3* const database_;
  const char* const sql_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int code_ = SQLITE_OK;
  int bound_ = 0;
  int column_ = 0;
};

// Transaction is rolled back unless committed. It takes the write lock at once.
class Transaction {
 public:
  explicit Transaction(sqlite3* database) : database_(database) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();

  [[nodiscard]] absl::Status Begin();
  [[nodiscard]] absl::Status Commit();

 private:
  sqlite3* const database_;
  bool open_ = false;
};

}  // namespace sealift::store
