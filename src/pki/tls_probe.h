// A look at what a TLS server lets in.
#pragma once

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/socket.h"

namespace sealift::pki {

enum class TlsVersion { k12, k13 };

// ProbeTls connects, offers a handshake of exactly `version` with every cipher suite there is and
// no certificate, then hangs up. It says whether the server agreed to the version (sent a
// ServerHello), whatever became of the handshake afterwards; an error (UNAVAILABLE,
// DEADLINE_EXCEEDED) means that it could not be asked. Nothing of the server is trusted.
[[nodiscard]] absl::StatusOr<bool> ProbeTls(const base::HostPort& address, TlsVersion version,
                                            base::Duration timeout);

}  // namespace sealift::pki
