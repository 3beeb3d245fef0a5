#include "agent/orders.h"

#include <fmt/format.h>

namespace sealift::agent {
namespace {

constexpr std::uint16_t kMaxStreams = 33;

}  // namespace

absl::Status CheckAddressee(const MigrationOrder& order, const std::string& meant_for,
                            const std::string& self) {
  if (meant_for != self) {
    return absl::PermissionDeniedError(
        fmt::format("the migration spec names {}, this is {}", meant_for, self));
  }
  if (order.spec.streams < 1 || order.spec.streams > kMaxStreams) {
    return absl::InvalidArgumentError(
        fmt::format("a migration needs 1 to {} data streams", kMaxStreams));
  }
  return absl::OkStatus();
}

absl::Status CheckProtection(const MigrationOrder& order, policy::EncryptionMode mode) {
  if (order.spec.protection == keys::Protection::kSealed || policy::MayRunInTheClear(mode)) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(fmt::format(
      "VM {} requires encryption: this host refuses to move it in the clear", order.spec.vm));
}

absl::Status CheckMode(const MigrationOrder& order, policy::EncryptionMode stored) {
  if (order.mode == stored || policy::MayRunInTheClear(stored)) return absl::OkStatus();
  return absl::PermissionDeniedError(
      fmt::format("VM {} is kept as {} on this host, the migration spec says {}", order.spec.vm,
                  policy::ModeName(stored), policy::ModeName(order.mode)));
}

}  // namespace sealift::agent
