// Private keys under a passphrase, as they lie in backups.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace sealift::pki {

// EncryptPrivateKey gives the key as encrypted PKCS#8 PEM (RFC 5958), which `openssl pkey` reads:
// PBES2 (RFC 8018) with AES-256-CBC, and PBKDF2 with HMAC-SHA-512 and 600,000 rounds, about half a
// second.
[[nodiscard]] absl::StatusOr<std::string> EncryptPrivateKey(const std::string& key_pem,
                                                            const std::string& passphrase);

// DecryptPrivateKey is the way back. PERMISSION_DENIED for any other passphrase, INVALID_ARGUMENT
// for text that is no encrypted key.
[[nodiscard]] absl::StatusOr<std::string> DecryptPrivateKey(const std::string& encrypted_pem,
                                                            const std::string& passphrase);

}  // namespace sealift::pki
