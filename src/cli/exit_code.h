// What `sealift` tells the shell.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace sealift::cli {

// ExitCode of the process. Scripts rely on the numbers: they never change.
enum class ExitCode {
  kDone = 0,
  kFailed = 1,  // a migration failed and the VM is safe (the message says where it runs), or any
                // other error
  kUsage = 2,   // wrong arguments, a malformed file, no context file
  kUnreachable = 3,  // the controller, or what it needed to reach
  kNotAllowed = 4,
  kNotFound = 5,
  kTimeout = 6,
  kCancelled = 7,      // the migration was cancelled, or a question answered with no
  kRefused = 8,        // by a check before anything was touched
  kPartly = 9,         // some of many were not done; the output says which and why
  kInterrupted = 130,  // by Ctrl-C; a migration being watched goes on
};

// ExitCodeOf maps an error as the controller sent it; OK is kDone.
[[nodiscard]] ExitCode ExitCodeOf(const absl::Status& status);

// ExitCodeHelp is the list of exit codes for --help.
[[nodiscard]] std::string ExitCodeHelp();

}  // namespace sealift::cli
