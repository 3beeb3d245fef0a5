// One error model for every control path: absl::Status and absl::StatusOr, with the canonical codes
// that gRPC carries unchanged. An error's text says what was being attempted and with which values;
// a cause is appended once, by Annotate().
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::base {

// ErrnoStatus turns the errno of a failed system call into a status: "open /x: Permission denied".
// ENOENT becomes NOT_FOUND, EACCES and EPERM PERMISSION_DENIED, ETIMEDOUT DEADLINE_EXCEEDED,
// ENOSPC, EMFILE, ENOMEM and EAGAIN RESOURCE_EXHAUSTED, a peer that is gone or not to be reached
// UNAVAILABLE, the rest INTERNAL.
[[nodiscard]] absl::Status ErrnoStatus(std::string_view what, int error_number);

// MessageOf gives the text of a status as a std::string (Debian's absl::string_view is not
// std::string_view).
[[nodiscard]] std::string MessageOf(const absl::Status& status);

// Annotate puts "context: " in front of the message of a failed status; an OK status passes
// unchanged.
[[nodiscard]] absl::Status Annotate(const absl::Status& status, std::string_view context);

}  // namespace sealift::base

#define SEALIFT_STATUS_CONCAT_INNER(a, b) a##b
#define SEALIFT_STATUS_CONCAT(a, b) SEALIFT_STATUS_CONCAT_INNER(a, b)

// SEALIFT_RETURN_IF_ERROR returns the status of an expression from the function unless it is OK.
#define SEALIFT_RETURN_IF_ERROR(expression)            \
  do {                                                 \
    absl::Status sealift_status_ = (expression);       \
    if (!sealift_status_.ok()) return sealift_status_; \
  } while (false)

// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses
// SEALIFT_ASSIGN_OR_RETURN(auto x, F()) assigns the value of a StatusOr, or returns its status.
#define SEALIFT_ASSIGN_OR_RETURN(declaration, expression)                                   \
  SEALIFT_ASSIGN_OR_RETURN_INNER(SEALIFT_STATUS_CONCAT(sealift_or_, __LINE__), declaration, \
                                 expression)
#define SEALIFT_ASSIGN_OR_RETURN_INNER(temporary, declaration, expression) \
  auto temporary = (expression);                                           \
  if (!temporary.ok()) return std::move(temporary).status();               \
  declaration = *std::move(temporary)
// NOLINTEND(bugprone-macro-parentheses)
