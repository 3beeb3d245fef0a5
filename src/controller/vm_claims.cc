#include "controller/vm_claims.h"

#include <fmt/format.h>

namespace sealift::controller {

absl::StatusOr<std::unique_ptr<VmClaims::Claim>> VmClaims::Take(const std::string& vm,
                                                                const std::string& doing) {
  const std::lock_guard lock(mutex_);
  const auto [held, taken] = doing_.try_emplace(vm, doing);
  if (taken) return std::make_unique<Claim>(*this, vm);
  return absl::FailedPreconditionError(
      fmt::format("VM {} is {} right now: try again when that is done", vm, held->second));
}

void VmClaims::Release(const std::string& vm) {
  const std::lock_guard lock(mutex_);
  doing_.erase(vm);
}

}  // namespace sealift::controller
