#include "cli/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/clock.h"

namespace sealift::cli {
namespace {

// Scaled writes three significant digits: "1.25 GB", "12.5 GB", "125 GB"; whole numbers of the
// smallest unit stay whole.
template <std::size_t N>
std::string Scaled(std::uint64_t value, double base, const std::array<const char*, N>& units) {
  auto scaled = static_cast<double>(value);
  std::size_t unit = 0;
  while (scaled >= base * 0.9995 && unit + 1 < N) {
    scaled /= base;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} {}", value, units[0]);
  const int decimals = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  std::string digits = fmt::format("{:.{}f}", scaled, decimals);
  if (decimals > 0) {
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.back() == '.') digits.pop_back();
  }
  return fmt::format("{} {}", digits, units[unit]);
}

bool StartsCodePoint(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }

}  // namespace

std::string FormatBytes(std::uint64_t bytes) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  return Scaled(bytes, 1024.0, kUnits);
}

std::string FormatRate(std::uint64_t bytes_per_second) {
  static constexpr std::array kUnits = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  return Scaled(bytes_per_second, 1000.0, kUnits);
}

std::string FormatMillis(std::uint64_t milliseconds) {
  if (milliseconds < 1000) return fmt::format("{} ms", milliseconds);
  if (milliseconds < 60'000) {
    return fmt::format("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100);
  }
  const std::uint64_t seconds = milliseconds / 1000;
  if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {} min", seconds / 3600, seconds % 3600 / 60);
}

std::string FormatTime(std::int64_t unix_milliseconds) {
  std::string text = base::FormatUtc(base::FromUnixMillis(unix_milliseconds));
  text.insert(text.size() - 1, fmt::format(".{:03}", unix_milliseconds % 1000));
  return text;
}

std::string FormatShortTime(std::int64_t unix_milliseconds) {
  if (unix_milliseconds <= 0) return "-";
  return base::FormatUtc(base::FromUnixMillis(unix_milliseconds));
}

std::string Printable(std::string_view text) {
  std::string printable;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 = byte == 0xC2 && i + 1 < text.size() &&
                    static_cast<unsigned char>(text[i + 1]) < 0xA0;  // U+0080..U+009F in UTF-8
    if (text[i] == '\n') {
      printable += ' ';
    } else if (byte < 0x20 || byte == 0x7F || c1) {
      printable += '?';
      if (c1) ++i;
    } else {
      printable += text[i];
    }
  }
  return printable;
}

std::size_t DisplayWidth(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), StartsCodePoint));
}

}  // namespace sealift::cli
