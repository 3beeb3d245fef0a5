#include "pki/identity.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"

namespace sealift::pki {
namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::string_view kController = "controller";
constexpr std::string_view kHostPrefix = "host/";
constexpr std::string_view kOperatorPrefix = "operator/";
constexpr std::size_t kMaxName = 63;

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
      ".../host/NAME or .../operator/NAME",
      Printable(uri)));
}

bool TakePrefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::string Identity::ToUri() const {
  switch (role) {
    case Role::kController:
      return fmt::format("{}{}/{}", kScheme, trust_domain, kController);
    case Role::kHost:
      return fmt::format("{}{}/{}{}", kScheme, trust_domain, kHostPrefix, name);
    case Role::kOperator:
      return fmt::format("{}{}/{}{}", kScheme, trust_domain, kOperatorPrefix, name);
  }
  return "";
}

absl::StatusOr<Identity> ParseIdentity(std::string_view uri) {
  std::string_view rest = uri;
  if (!TakePrefix(rest, kScheme)) return NotAnIdentity(uri);
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos || !IsName(rest.substr(0, slash))) return NotAnIdentity(uri);
  Identity identity;
  identity.trust_domain = rest.substr(0, slash);
  rest.remove_prefix(slash + 1);
  if (rest == kController) {
    identity.role = Role::kController;
    return identity;
  }
  if (TakePrefix(rest, kHostPrefix)) {
    identity.role = Role::kHost;
  } else if (TakePrefix(rest, kOperatorPrefix)) {
    identity.role = Role::kOperator;
  } else {
    return NotAnIdentity(uri);
  }
  if (!IsName(rest)) return NotAnIdentity(uri);
  identity.name = rest;
  return identity;
}

absl::Status CheckName(std::string_view what, std::string_view name) {
  if (IsName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "{} name \"{}\" is not allowed: use 1 to {} lower-case letters, digits and hyphens, "
      "with a letter or digit at both ends",
      what, Printable(name), kMaxName));
}

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kController:
      return "controller";
    case Role::kHost:
      return "host";
    case Role::kOperator:
      return "operator";
  }
  return "unknown";
}

}  // namespace sealift::pki
