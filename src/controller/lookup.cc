#include "controller/lookup.h"

#include <fmt/format.h>

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

absl::Status NobodyHas(const store::VmRow& vm) {
  return absl::FailedPreconditionError(fmt::format(
      "no host was found to have VM {} since the controller was restored from a backup: it was "
      "deleted (sealift vm delete {}), or is on a host that the store does not know (let that join "
      "again), or, if it runs nowhere for certain, say so with sealift vm start {} --runs-nowhere",
      vm.name, vm.name, vm.name));
}

}  // namespace sealift::controller
