// Opening the file: locks, settings, schema. For sqlite_store.cc only.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "store/statement.h"

namespace sealift::store {

// OpenDatabase gives a connection that is ready for use and holds the file for itself.
[[nodiscard]] absl::StatusOr<Database> OpenDatabase(const std::string& path);

}  // namespace sealift::store
