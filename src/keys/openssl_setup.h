// How a daemon that handles keys uses OpenSSL.
#pragma once

#include "absl/status/status.h"

namespace sealift::keys {

// Provider of OpenSSL's algorithms.
enum class Provider {
  kDefault,
  kFips,  // OpenSSL's FIPS provider and nothing else, for the whole process
};

// SetUpOpenssl prepares OpenSSL for working copies of secrets that it makes by itself. What it
// knows to be a private key goes to its secure heap: locked, not in core files, between guard
// pages. Whatever else it allocates is cleansed when it is freed, whether OpenSSL itself thinks of
// it or not (docs/key_management.md says what is where). Its algorithms come from `provider`.
//
// FAILED_PRECONDITION when there is no such provider here, or when OpenSSL was used before;
// RESOURCE_EXHAUSTED when the heap cannot be locked. The text names the remedy, and the process
// must not go on. To be called once, at the start, while the process has one thread.
[[nodiscard]] absl::Status SetUpOpenssl(Provider provider);

}  // namespace sealift::keys
