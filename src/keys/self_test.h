// Known-answer tests of the primitives that make and carry migration keys.
#pragma once

#include "absl/status/status.h"

namespace sealift::keys {

// SelfTest computes with OpenSSL what is known beforehand, and compares: the hash of a spec
// (SHA-512, the worked example of docs/protocol.md), HMAC-SHA512 (RFC 4231 §4.3), HKDF-SHA512 (the
// inputs of RFC 5869 A.1), and HPKE (RFC 9180 A.6.1: decapsulation, key schedule, sealing and
// opening, and a forged message that must not open). INTERNAL names the one that is wrong: whoever
// gets it must not handle keys. Each daemon runs it at every start. Thread-safe.
[[nodiscard]] absl::Status SelfTest();

}  // namespace sealift::keys
