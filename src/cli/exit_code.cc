#include "cli/exit_code.h"

namespace sealift::cli {

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kDone;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kUsage;
    case absl::StatusCode::kUnavailable:
      return ExitCode::kUnreachable;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return ExitCode::kNotAllowed;
    case absl::StatusCode::kNotFound:
      return ExitCode::kNotFound;
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kTimeout;
    case absl::StatusCode::kCancelled:
      return ExitCode::kCancelled;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kResourceExhausted:
      return ExitCode::kRefused;
    default:
      return ExitCode::kFailed;
  }
}

std::string ExitCodeHelp() {
  return "Exit codes:\n"
         "  0    done\n"
         "  1    a migration failed and the VM is safe (the message says where it runs); any other "
         "error\n"
         "  2    wrong usage: arguments, a malformed file, no context file\n"
         "  3    the controller, or a host it needed, cannot be reached\n"
         "  4    not allowed\n"
         "  5    not found\n"
         "  6    timeout\n"
         "  7    cancelled\n"
         "  8    refused by a check before anything was touched\n"
         "  9    some of many were not done; the output says which and why\n"
         "  130  interrupted by Ctrl-C (a migration that was being watched goes on)";
}

}  // namespace sealift::cli
