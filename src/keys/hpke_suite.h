// The parts of HPKE that hpke.h puts together, in the terms of RFC 9180. Internal to keys; the
// RFC's test vectors are checked against these functions.
#pragma once

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/secret_bytes.h"

namespace sealift::keys {

// HpkeKeyPair is a P-521 key pair.
struct HpkeKeyPair {
  SecretBytes private_key;  // kP521ScalarSize bytes
  base::Bytes public_key;   // kHpkePublicKeySize bytes
};

// HpkeContext is what the key schedule of a single-shot message yields (RFC 9180 §5.1).
struct HpkeContext {
  SecretBytes key;
  SecretBytes base_nonce;
};

// DeriveHpkeKeyPair is DeriveKeyPair (RFC 9180 §7.1.3).
[[nodiscard]] absl::StatusOr<HpkeKeyPair> DeriveHpkeKeyPair(const SecretBytes& input_key);

// HpkeEncapsulate is Encap (RFC 9180 §4.1) with a given ephemeral key pair: the shared secret whose
// encapsulation is ephemeral.public_key. INVALID_ARGUMENT for a bad receiver key.
[[nodiscard]] absl::StatusOr<SecretBytes> HpkeEncapsulate(const HpkeKeyPair& ephemeral,
                                                          base::ByteSpan receiver_public_key);

// HpkeDecapsulate is Decap (RFC 9180 §4.1). INVALID_ARGUMENT for a bad encapsulation.
[[nodiscard]] absl::StatusOr<SecretBytes> HpkeDecapsulate(const HpkeKeyPair& receiver,
                                                          base::ByteSpan encapsulated);

// HpkeKeySchedule is KeySchedule in mode_base (RFC 9180 §5.1).
[[nodiscard]] absl::StatusOr<HpkeContext> HpkeKeySchedule(const SecretBytes& shared_secret,
                                                          base::ByteSpan info);

// HpkeSealMessage is Context.Seal for the first message (RFC 9180 §5.2): ciphertext || tag.
[[nodiscard]] absl::StatusOr<base::Bytes> HpkeSealMessage(const HpkeContext& context,
                                                          base::ByteSpan aad,
                                                          base::ByteSpan plaintext);

// HpkeOpenMessage undoes it. PERMISSION_DENIED for anything that HpkeSealMessage did not make.
[[nodiscard]] absl::StatusOr<SecretBytes> HpkeOpenMessage(const HpkeContext& context,
                                                          base::ByteSpan aad,
                                                          base::ByteSpan ciphertext);

}  // namespace sealift::keys
