// Labels: what administrators write on VMs to find them again.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace sealift::base {

using Labels = std::map<std::string, std::string>;

inline constexpr std::size_t kMaxLabels = 64;

// CheckLabel accepts a key and a value of letters, digits, '.', '-', '_' and '/', at most 63
// characters each; the value may be empty, the key may not.
[[nodiscard]] absl::Status CheckLabel(std::string_view key, std::string_view value);

}  // namespace sealift::base
