// Who is who: one spiffe:// URI SAN per certificate, the role in its path, never a host name.
//   spiffe://TRUST-DOMAIN/controller        the controller
//   spiffe://TRUST-DOMAIN/host/NAME         the agent of a host
//   spiffe://TRUST-DOMAIN/viewer/NAME       a person or a program that may look,
//   spiffe://TRUST-DOMAIN/operator/NAME     operate VMs,
//   spiffe://TRUST-DOMAIN/admin/NAME        or do everything
#pragma once

#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sealift::pki {

enum class Role { kController, kHost, kViewer, kOperator, kAdmin };

// UserRoles are those of people and programs that call the controller.
[[nodiscard]] const std::set<Role>& UserRoles();

// RoleName gives "controller", "host", "viewer", "operator" or "admin".
[[nodiscard]] std::string_view RoleName(Role role);

// Identity of one party. A value.
struct Identity {
  std::string trust_domain;  // made at `controllerd init`, unique per installation
  Role role = Role::kHost;
  std::string name;  // of the host or user; empty for the controller

  [[nodiscard]] std::string ToUri() const;
  friend bool operator==(const Identity&, const Identity&) = default;
};

// ParseIdentity reads exactly what ToUri writes: no query, no port, no empty or extra path element.
[[nodiscard]] absl::StatusOr<Identity> ParseIdentity(std::string_view uri);

// CheckName accepts names of hosts and users: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63
// characters.
[[nodiscard]] absl::Status CheckName(std::string_view what, std::string_view name);

}  // namespace sealift::pki
