// Always-on checks for misuse by our own code. Input from a peer, QEMU or a user never reaches one:
// that is a returned error.
#pragma once

namespace sealift::base {

// CheckFailed prints "sealift: check failed: CONDITION at FILE:LINE" to stderr and aborts.
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace sealift::base

// SEALIFT_CHECK aborts the process when the condition is false, in every build type.
#define SEALIFT_CHECK(condition)                       \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::sealift::base::CheckFailed(#condition, __FILE__, __LINE__))
