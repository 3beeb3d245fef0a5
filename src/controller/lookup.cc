#include "controller/lookup.h"

#include "controller/planner.h"

namespace sealift::controller {

absl::StatusOr<store::VmRow> FindVm(store::Store& store, const std::string& name) {
  absl::StatusOr<store::VmRow> row = store.GetVm(name);
  if (absl::IsNotFound(row.status())) return NoSuchVm(name);
  return row;
}

absl::StatusOr<store::HostRow> FindHost(store::Store& store, const std::string& name) {
  absl::StatusOr<store::HostRow> row = store.GetHost(name);
  if (absl::IsNotFound(row.status())) return NoSuchHost(name);
  return row;
}

}  // namespace sealift::controller
