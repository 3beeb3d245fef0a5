#include "hypervisor/definition_syntax.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/utf8.h"

namespace sealift::hypervisor {
namespace {

constexpr std::size_t kMaxNameLength = 63;      // a DNS label
constexpr std::size_t kMaxPathLength = 1024;    // enough for anyone, and far from PATH_MAX
constexpr std::size_t kMaxBridgeLength = 15;    // IFNAMSIZ - 1
constexpr std::size_t kMaxAppendLength = 2047;  // COMMAND_LINE_SIZE - 1
constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz";
constexpr std::string_view kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

bool IsOneOf(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }
bool IsAlphanumeric(char c) {
  return IsOneOf(c, kLower) || IsOneOf(c, kUpper) || IsOneOf(c, kDigits);
}
bool ConsistsOf(std::string_view text, std::string_view set) {
  return text.find_first_not_of(set) == std::string_view::npos;
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (IsOneOf(c, kUpper)) c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

absl::Status Refuse(std::string_view value, std::string_view expectation) {
  return absl::InvalidArgumentError(fmt::format("'{}' is not {}", value, expectation));
}

absl::Status RefuseControlCharacters(std::string_view text) {
  return base::HasControlCharacters(text)
             ? absl::InvalidArgumentError("contains a control character")
             : absl::OkStatus();
}

// IsHexGroups: hexadecimal digits in groups of the given lengths, with a separator between two
// groups.
bool IsHexGroups(std::string_view text, std::span<const std::size_t> lengths, char separator) {
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    if (i > 0) {
      if (text.empty() || text.front() != separator) return false;
      text.remove_prefix(1);
    }
    if (text.size() < lengths[i] || !ConsistsOf(text.substr(0, lengths[i]), kHexDigits)) {
      return false;
    }
    text.remove_prefix(lengths[i]);
  }
  return text.empty();
}

std::optional<unsigned> BinaryExponent(std::string_view unit) {
  if (unit == "KiB") return 10;
  if (unit == "MiB") return 20;
  if (unit == "GiB") return 30;
  if (unit == "TiB") return 40;
  return std::nullopt;
}

bool IsPort(std::string_view text) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

// An end of a forwarding rule: "[address]:port", the address an IPv4 one or left out.
bool IsForwardEnd(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  return ConsistsOf(text.substr(0, colon), "0123456789.") && IsPort(text.substr(colon + 1));
}

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

}  // namespace

absl::StatusOr<std::uint64_t> ParseSize(std::string_view text) {
  constexpr std::string_view kExpectation = "a size such as 512MiB or 2GiB";
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number == 0) return Refuse(text, kExpectation);
  const std::optional<unsigned> exponent =
      BinaryExponent(text.substr(static_cast<std::size_t>(end - text.data())));
  if (!exponent.has_value()) return Refuse(text, kExpectation);
  if (number > (std::numeric_limits<std::uint64_t>::max() >> *exponent)) {
    return absl::InvalidArgumentError(fmt::format("'{}' is too large", text));
  }
  return number << *exponent;
}

absl::StatusOr<std::string> ParseUuid(std::string_view text) {
  constexpr std::array<std::size_t, 5> kGroups = {8, 4, 4, 4, 12};
  std::string lower = LowerCase(text);
  if (!IsHexGroups(lower, kGroups, '-')) {
    return Refuse(text, "a UUID such as 6fa3b2c4-0d1e-4f5a-8b9c-0123456789ab");
  }
  return lower;
}

absl::StatusOr<std::string> ParseMac(std::string_view text) {
  constexpr std::array<std::size_t, 6> kGroups = {2, 2, 2, 2, 2, 2};
  std::string lower = LowerCase(text);
  if (!IsHexGroups(lower, kGroups, ':')) {
    return Refuse(text, "a MAC address such as 52:54:00:12:34:56");
  }
  if (IsOneOf(lower[1], "13579bdf")) {
    return Refuse(text, "an address of one NIC: its first octet is odd, which means multicast");
  }
  return lower;
}

absl::Status CheckName(std::string_view text) {
  const bool inside = ConsistsOf(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
  if (!inside || text.empty() || text.size() > kMaxNameLength || text.front() == '-' ||
      text.back() == '-') {
    return Refuse(text, "a name: use a-z, 0-9 and inner hyphens, at most 63 characters");
  }
  return absl::OkStatus();
}

absl::Status CheckPath(std::string_view text) {
  if (!text.starts_with('/')) return Refuse(text, "an absolute path");
  if (text.size() > kMaxPathLength) {
    return absl::InvalidArgumentError(
        fmt::format("a path of {} bytes is longer than {}", text.size(), kMaxPathLength));
  }
  return RefuseControlCharacters(text);
}

absl::Status CheckMachine(std::string_view text) {
  const std::size_t dash = text.rfind('-');
  const std::string_view family = text.substr(0, dash);
  const std::string_view version =
      dash == std::string_view::npos ? std::string_view() : text.substr(dash + 1);
  const bool known_family = family.starts_with("pc-q35") || family.starts_with("pc-i440fx");
  const bool versioned = version.find('.') != std::string_view::npos &&
                         ConsistsOf(version, "abcdefghijklmnopqrstuvwxyz0123456789.");
  if (known_family && versioned &&
      std::ranges::all_of(family, [](char c) { return IsAlphanumeric(c) || c == '-'; })) {
    return absl::OkStatus();
  }
  if (text == "q35" || text == "pc") {
    return absl::InvalidArgumentError(
        fmt::format("'{}' means another machine with each QEMU version: write {}", text,
                    text == "q35" ? "pc-q35-7.2" : "pc-i440fx-7.2"));
  }
  return Refuse(text, "a versioned machine type such as pc-q35-7.2 or pc-i440fx-7.2");
}

absl::Status CheckCpuModel(std::string_view text) {
  const bool good =
      !text.empty() && text.size() <= kMaxNameLength &&
      std::ranges::all_of(text, [](char c) { return IsAlphanumeric(c) || IsOneOf(c, "-_."); });
  if (!good) return Refuse(text, "a CPU model such as Westmere or EPYC-v2");
  return absl::OkStatus();
}

absl::Status CheckBridge(std::string_view text) {
  const bool good =
      !text.empty() && text.size() <= kMaxBridgeLength && text != "." && text != ".." &&
      std::ranges::all_of(text, [](char c) { return IsAlphanumeric(c) || IsOneOf(c, "-_."); });
  if (!good) return Refuse(text, "the name of a bridge such as br0");
  return absl::OkStatus();
}

absl::Status CheckForward(std::string_view text) {
  const bool protocol = text.starts_with("tcp:") || text.starts_with("udp:");
  const std::string_view ends = protocol ? text.substr(4) : std::string_view();
  const std::size_t dash = ends.find('-');
  if (dash == std::string_view::npos || !IsForwardEnd(ends.substr(0, dash)) ||
      !IsForwardEnd(ends.substr(dash + 1))) {
    return Refuse(text, "a forwarding rule such as tcp:127.0.0.1:2222-:22");
  }
  return absl::OkStatus();
}

absl::Status CheckAppend(std::string_view text) {
  if (text.size() > kMaxAppendLength) {
    return absl::InvalidArgumentError(
        fmt::format("a command line of {} bytes is longer than {}", text.size(), kMaxAppendLength));
  }
  return RefuseControlCharacters(text);
}

std::string_view NearestName(std::string_view text, std::span<const std::string_view> candidates) {
  constexpr std::size_t kMaxLength = 64;  // longer than any candidate: nothing to compare
  std::string_view nearest;
  std::size_t best = std::min<std::size_t>(3, text.size());  // three typing errors, not a rewrite
  if (text.size() > kMaxLength) return nearest;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = EditDistance(text, candidate);
    if (distance < best) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace sealift::hypervisor
