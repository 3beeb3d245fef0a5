// Times as people type them.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"

namespace sealift::cli {

// ParseTime reads "2026-01-31" or "2026-01-31T12:34:56Z" (UTC), or a span before `now`: "90m",
// "36h", "7d". Milliseconds since 1970; INVALID_ARGUMENT for anything else.
[[nodiscard]] absl::StatusOr<std::int64_t> ParseTime(const std::string& text, base::WallTime now);

}  // namespace sealift::cli
