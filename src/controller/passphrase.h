// Passphrases of backups. They come from a file or a person, never from the command line or the
// environment, where others could read them.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace sealift::controller {

inline constexpr std::size_t kShortestPassphrase = 12;

// NewPassphrase is one to encrypt with: what the file holds, without the end of its line, or, where
// no file is named, what is typed twice at the terminal. INVALID_ARGUMENT for a short one.
[[nodiscard]] absl::StatusOr<std::string> NewPassphrase(const std::string& file);

// KnownPassphrase is one to decrypt with, typed once. Both are FAILED_PRECONDITION without a file
// and a terminal.
[[nodiscard]] absl::StatusOr<std::string> KnownPassphrase(const std::string& file);

}  // namespace sealift::controller
