#include "cli/time_argument.h"

#include <fmt/format.h>

#include <charconv>
#include <ctime>
#include <optional>

namespace sealift::cli {
namespace {

std::optional<std::int64_t> ParseSpan(const std::string& text) {
  std::uint32_t count = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, count);
  if (error != std::errc() || last - end != 1) return std::nullopt;
  constexpr std::int64_t kMinute = 60'000;
  switch (*end) {
    case 'm':
      return count * kMinute;
    case 'h':
      return count * 60 * kMinute;
    case 'd':
      return count * 24 * 60 * kMinute;
    default:
      return std::nullopt;
  }
}

std::optional<std::int64_t> ParseDate(const std::string& text) {
  for (const char* format : {"%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"}) {
    std::tm time{};
    const char* const end = strptime(text.c_str(), format, &time);
    if (end == text.c_str() + text.size()) return std::int64_t{timegm(&time)} * 1000;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::int64_t> ParseTime(const std::string& text, base::WallTime now) {
  if (const auto span = ParseSpan(text)) return base::UnixMillis(now) - *span;
  if (const auto date = ParseDate(text)) return *date;
  return absl::InvalidArgumentError(fmt::format(
      "'{}' is not a time: give 2026-01-31, 2026-01-31T12:34:56Z, or how long ago: 90m, 36h, 7d",
      text));
}

}  // namespace sealift::cli
