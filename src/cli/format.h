// Numbers, times and foreign text as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sealift::cli {

// FormatBytes writes an amount of memory: "512 B", "1.5 GiB".
[[nodiscard]] std::string FormatBytes(std::uint64_t bytes);

// FormatRate writes bytes per second in decimal units, as networks are measured: "1.25 GB/s".
[[nodiscard]] std::string FormatRate(std::uint64_t bytes_per_second);

// FormatMillis writes a span: "41 ms", "3.2 s", "4 min 12 s", "2 h 3 min".
[[nodiscard]] std::string FormatMillis(std::uint64_t milliseconds);

// FormatTime writes milliseconds since 1970 as RFC 3339 with milliseconds:
// "2026-01-31T12:34:56.789Z".
[[nodiscard]] std::string FormatTime(std::int64_t unix_milliseconds);

// FormatShortTime is for tables: whole seconds, "-" for zero, which means never.
[[nodiscard]] std::string FormatShortTime(std::int64_t unix_milliseconds);

// Printable replaces control characters (C0, DEL and C1) by '?': text that came from elsewhere must
// not steer the terminal. Line feeds become spaces.
[[nodiscard]] std::string Printable(std::string_view text);

// DisplayWidth counts the code points of UTF-8 text.
[[nodiscard]] std::size_t DisplayWidth(std::string_view text);

}  // namespace sealift::cli
