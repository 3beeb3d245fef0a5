// The implementations of Aead. Internal to record: everyone else calls MakeAead.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "keys/secret_bytes.h"
#include "record/aead.h"

namespace sealift::record {

// MakeIpsecMbAead keeps the key schedule, the GHASH table and the working state in secret memory.
// UNAVAILABLE when the CPU lacks AES-NI or PCLMULQDQ; INTERNAL when the library's own power-on
// self-test did not pass. Thread-safe.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Aead>> MakeIpsecMbAead(const keys::SecretBytes& key);

// MakeOpensslAead keeps the key schedule in OpenSSL's cipher context, on its heap, cleansed when
// freed. Thread-safe.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Aead>> MakeOpensslAead(const keys::SecretBytes& key);

}  // namespace sealift::record
