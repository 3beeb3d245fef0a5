// Text that goes where only UTF-8 may go: protobuf strings, JSON, a person's terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sealift::base {

// IsUtf8 says whether text is well-formed UTF-8 (RFC 3629).
[[nodiscard]] bool IsUtf8(std::string_view text);

// MakeUtf8 replaces every byte that is part of no character by '?', and cuts after the last
// character that fits into `max_size` bytes.
[[nodiscard]] std::string MakeUtf8(std::string_view text, std::size_t max_size);

// MakeLine does the same, and replaces control characters (C0 and DEL) by spaces.
[[nodiscard]] std::string MakeLine(std::string_view text, std::size_t max_size);

}  // namespace sealift::base
