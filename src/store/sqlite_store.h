// The store in one SQLite file.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "store/store.h"

namespace sealift::store {

// OpenSqliteStore opens the store at `path`, or makes it (file mode 0600; its folder must exist),
// and brings an older schema up to date. The folder stays locked until the store is destroyed: one
// controller owns a store, a second one gets FAILED_PRECONDITION. Whoever only reads (backup.h) is
// let in. A schema of a newer version is FAILED_PRECONDITION too, a damaged file INTERNAL.
//
// WAL with synchronous=FULL: a commit is on the disk before a call returns. After a crash the next
// opening recovers.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const std::string& path);

}  // namespace sealift::store
