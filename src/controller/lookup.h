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

// NobodyHas is FAILED_PRECONDITION, with the ways out, for a VM that no host was found to have
// since a restore.
[[nodiscard]] absl::Status NobodyHas(const store::VmRow& vm);

}  // namespace sealift::controller
