#include "pki/identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/status.h"

namespace sealift::pki {
namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::size_t kMaxName = 63;

struct NamedRole {
  Role role;
  std::string_view name;
};
constexpr std::array kRoles{
    NamedRole{Role::kController, "controller"}, NamedRole{Role::kHost, "host"},
    NamedRole{Role::kViewer, "viewer"},         NamedRole{Role::kOperator, "operator"},
    NamedRole{Role::kAdmin, "admin"},
};

bool IsLetterOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && IsLetterOrDigit(name.front()) &&
         IsLetterOrDigit(name.back()) &&
         std::ranges::all_of(name, [](char c) { return IsLetterOrDigit(c) || c == '-'; });
}

// Printable makes foreign text safe to show: what is not plain ASCII becomes '?', and long text is
// cut.
std::string Printable(std::string_view text) {
  std::string shown(text.substr(0, 128));
  std::ranges::replace_if(
      shown, [](char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

absl::Status NotAnIdentity(std::string_view uri) {
  return absl::InvalidArgumentError(fmt::format(
      "\"{}\" is not an identity of sealift: it must be spiffe://TRUST-DOMAIN/controller, "
      ".../host/NAME, .../viewer/NAME, .../operator/NAME or .../admin/NAME",
      Printable(uri)));
}

bool TakePrefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string Identity::ToUri() const {
  if (role == Role::kController)
    return fmt::format("{}{}/{}", kScheme, trust_domain, RoleName(role));
  return fmt::format("{}{}/{}/{}", kScheme, trust_domain, RoleName(role), name);
}

absl::StatusOr<Identity> ParseIdentity(std::string_view uri) {
  std::string_view rest = uri;
  if (!TakePrefix(rest, kScheme)) return NotAnIdentity(uri);
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos || !IsName(rest.substr(0, slash))) return NotAnIdentity(uri);
  Identity identity;
  identity.trust_domain = rest.substr(0, slash);
  rest.remove_prefix(slash + 1);
  for (const NamedRole& candidate : kRoles) {
    std::string_view name = rest;
    if (!TakePrefix(name, candidate.name)) continue;
    const bool named = candidate.role != Role::kController;
    if (named ? !TakePrefix(name, "/") || !IsName(name) : !name.empty()) continue;
    identity.role = candidate.role;
    identity.name = name;
    return identity;
  }
  return NotAnIdentity(uri);
}

const std::set<Role>& UserRoles() {
  static const std::set<Role> roles{Role::kViewer, Role::kOperator, Role::kAdmin};
  return roles;
}

absl::Status CheckName(std::string_view what, std::string_view name) {
  if (IsName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} name \"{}\" is not allowed: use 1 to {} lower-case letters, digits and hyphens, "
      "with a letter or digit at both ends",
      what, Printable(name), kMaxName));
}

std::string_view RoleName(Role role) {
  for (const NamedRole& candidate : kRoles) {
    if (candidate.role == role) return candidate.name;
  }
  return "unknown";
}

}  // namespace sealift::pki
