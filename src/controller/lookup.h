// Rows of the store by the name a user gave.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/store.h"

namespace sealift::controller {

// FindVm and FindHost are the store's, with a NOT_FOUND that tells the user what to do.
[[nodiscard]] absl::StatusOr<store::VmRow> FindVm(store::Store& store, const std::string& name);
[[nodiscard]] absl::StatusOr<store::HostRow> FindHost(store::Store& store, const std::string& name);

}  // namespace sealift::controller
