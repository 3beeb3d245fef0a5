// The log of a daemon: spdlog behind its own macros, to stderr, where systemd's journal picks it
// up. Nothing secret is ever passed to it; keys have no formatter.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#include "absl/status/status.h"

namespace sealift::base {

// SetUpLog names the program in every line and sets the level: "debug", "info", "warn" or "error".
[[nodiscard]] absl::Status SetUpLog(const std::string& program, const std::string& level);

}  // namespace sealift::base
