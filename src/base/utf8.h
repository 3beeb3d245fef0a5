// Text that goes where only UTF-8 may go: protobuf strings, JSON, a person's terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sealift::base {

// IsUtf8 says whether text is well-formed UTF-8 (RFC 3629).
[[nodiscard]] bool IsUtf8(std::string_view text);

// HasControlCharacters says whether UTF-8 text has one of C0, DEL or C1: a terminal obeys them.
[[nodiscard]] bool HasControlCharacters(std::string_view text);

// MakeUtf8 replaces every byte that is part of no character by '?', and cuts after the last
// character that fits into `max_size` bytes.
[[nodiscard]] std::string MakeUtf8(std::string_view text, std::size_t max_size);

// MakeLine does the same, and replaces each control character by a space.
[[nodiscard]] std::string MakeLine(std::string_view text, std::size_t max_size);

}  // namespace sealift::base
