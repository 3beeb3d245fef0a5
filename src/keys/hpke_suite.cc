#include "keys/hpke_suite.h"

#include <openssl/evp.h>

#include <memory>
#include <utility>

#include "base/status.h"
#include "keys/c_interop.h"
#include "keys/hkdf.h"
#include "keys/hpke.h"
#include "keys/p521.h"

namespace sealift::keys {
namespace {

using base::AsBytes;

constexpr std::uint16_t kKemId = 0x0012;   // DHKEM(P-521, HKDF-SHA512)
constexpr std::uint16_t kKdfId = 0x0003;   // HKDF-SHA512
constexpr std::uint16_t kAeadId = 0x0002;  // AES-256-GCM
constexpr std::uint8_t kModeBase = 0x00;
constexpr std::size_t kSharedSecretSize = 64;  // Nsecret
constexpr std::size_t kKeySize = 32;           // Nk
constexpr std::size_t kNonceSize = 12;         // Nn

base::Bytes KemSuiteId() {
  base::Bytes id;
  base::Append(id, AsBytes("KEM"));
  base::AppendBig(id, kKemId);
  return id;
}

base::Bytes HpkeSuiteId() {
  base::Bytes id;
  base::Append(id, AsBytes("HPKE"));
  base::AppendBig(id, kKemId);
  base::AppendBig(id, kKdfId);
  base::AppendBig(id, kAeadId);
  return id;
}

// RFC 9180 §4.
absl::StatusOr<SecretBytes> LabeledExtract(base::ByteSpan suite_id, base::ByteSpan salt,
                                           std::string_view label, base::ByteSpan input_key) {
  return HkdfExtract(salt, {AsBytes("HPKE-v1"), suite_id, AsBytes(label), input_key});
}

absl::StatusOr<SecretBytes> LabeledExpand(base::ByteSpan suite_id,
                                          const SecretBytes& pseudo_random_key,
                                          std::string_view label, base::ByteSpan info,
                                          std::size_t size) {
  base::Bytes labeled;
  base::AppendBig(labeled, static_cast<std::uint16_t>(size));
  base::Append(labeled, AsBytes("HPKE-v1"));
  base::Append(labeled, suite_id);
  base::Append(labeled, AsBytes(label));
  base::Append(labeled, info);
  return HkdfExpand(pseudo_random_key, labeled, size);
}

// ExtractAndExpand of RFC 9180 §4.1.
absl::StatusOr<SecretBytes> ExtractAndExpand(const SecretBytes& dh, base::ByteSpan encapsulated,
                                             base::ByteSpan receiver_public_key) {
  base::Bytes kem_context;
  base::Append(kem_context, encapsulated);
  base::Append(kem_context, receiver_public_key);
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes eae_prk,
                           LabeledExtract(KemSuiteId(), {}, "eae_prk", dh.bytes()));
  return LabeledExpand(KemSuiteId(), eae_prk, "shared_secret", kem_context, kSharedSecretSize);
}

using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeWith<::EVP_CIPHER_CTX_free>>;

enum class Operation : int { kOpen = 0, kSeal = 1 };

// Key, nonce and AAD set; null when OpenSSL fails.
CipherContext StartAesGcm(const HpkeContext& hpke, base::ByteSpan aad, Operation operation) {
  CipherContext cipher(::EVP_CIPHER_CTX_new());
  int size = 0;
  const bool started =
      cipher != nullptr &&
      ::EVP_CipherInit_ex(cipher.get(), ::EVP_aes_256_gcm(), nullptr, Octets(hpke.key.bytes()),
                          Octets(hpke.base_nonce.bytes()), static_cast<int>(operation)) == 1 &&
      (aad.empty() || ::EVP_CipherUpdate(cipher.get(), nullptr, &size, Octets(aad),
                                         static_cast<int>(aad.size())) == 1);
  return started ? std::move(cipher) : nullptr;
}

bool Update(EVP_CIPHER_CTX* cipher, base::ByteSpan from, base::MutableByteSpan to) {
  int size = 0;
  return from.empty() || ::EVP_CipherUpdate(cipher, MutableOctets(to), &size, Octets(from),
                                            static_cast<int>(from.size())) == 1;
}

}  // namespace

absl::StatusOr<HpkeKeyPair> DeriveHpkeKeyPair(const SecretBytes& input_key) {
  const base::Bytes suite_id = KemSuiteId();
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes dkp_prk,
                           LabeledExtract(suite_id, {}, "dkp_prk", input_key.bytes()));
  for (int counter = 0; counter <= 255; ++counter) {
    const std::byte info{static_cast<std::uint8_t>(counter)};
    SEALIFT_ASSIGN_OR_RETURN(SecretBytes candidate, LabeledExpand(suite_id, dkp_prk, "candidate",
                                                                  {&info, 1}, kP521ScalarSize));
    candidate.bytes()[0] &= std::byte{0x01};  // the order of P-521 has 521 bits
    if (!IsP521Scalar(candidate)) continue;
    SEALIFT_ASSIGN_OR_RETURN(base::Bytes public_key, P521PublicKey(candidate));
    return HpkeKeyPair{std::move(candidate), std::move(public_key)};
  }
  return absl::InternalError("HPKE: no P-521 key in 256 candidates");
}

absl::StatusOr<SecretBytes> HpkeEncapsulate(const HpkeKeyPair& ephemeral,
                                            base::ByteSpan receiver_public_key) {
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes dh,
                           P521SharedSecret(ephemeral.private_key, receiver_public_key));
  return ExtractAndExpand(dh, ephemeral.public_key, receiver_public_key);
}

absl::StatusOr<SecretBytes> HpkeDecapsulate(const HpkeKeyPair& receiver,
                                            base::ByteSpan encapsulated) {
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes dh,
                           P521SharedSecret(receiver.private_key, encapsulated));
  return ExtractAndExpand(dh, encapsulated, receiver.public_key);
}

absl::StatusOr<HpkeContext> HpkeKeySchedule(const SecretBytes& shared_secret, base::ByteSpan info) {
  const base::Bytes suite_id = HpkeSuiteId();
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes psk_id_hash,
                           LabeledExtract(suite_id, {}, "psk_id_hash", {}));
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes info_hash,
                           LabeledExtract(suite_id, {}, "info_hash", info));
  base::Bytes key_schedule_context;
  base::AppendBig(key_schedule_context, kModeBase);
  base::Append(key_schedule_context, psk_id_hash.bytes());
  base::Append(key_schedule_context, info_hash.bytes());
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes secret,
                           LabeledExtract(suite_id, shared_secret.bytes(), "secret", {}));
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes key,
                           LabeledExpand(suite_id, secret, "key", key_schedule_context, kKeySize));
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes base_nonce, LabeledExpand(suite_id, secret, "base_nonce",
                                                                 key_schedule_context, kNonceSize));
  return HpkeContext{std::move(key), std::move(base_nonce)};
}

absl::StatusOr<base::Bytes> HpkeSealMessage(const HpkeContext& context, base::ByteSpan aad,
                                            base::ByteSpan plaintext) {
  base::Bytes sealed(plaintext.size() + kHpkeTagSize);
  const base::MutableByteSpan out(sealed);
  const base::MutableByteSpan tag = out.last(kHpkeTagSize);
  const CipherContext cipher = StartAesGcm(context, aad, Operation::kSeal);
  int size = 0;
  if (cipher == nullptr || !Update(cipher.get(), plaintext, out.first(plaintext.size())) ||
      ::EVP_CipherFinal_ex(cipher.get(), MutableOctets(tag), &size) != 1 ||
      ::EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_GET_TAG, kHpkeTagSize, tag.data()) != 1) {
    return absl::InternalError("HPKE: OpenSSL could not encrypt with AES-256-GCM");
  }
  return sealed;
}

absl::StatusOr<SecretBytes> HpkeOpenMessage(const HpkeContext& context, base::ByteSpan aad,
                                            base::ByteSpan ciphertext) {
  const absl::Status denied = absl::PermissionDeniedError("HPKE: the message does not open");
  if (ciphertext.size() < kHpkeTagSize) return denied;
  const base::ByteSpan tag = ciphertext.last(kHpkeTagSize);
  const base::ByteSpan body = ciphertext.first(ciphertext.size() - kHpkeTagSize);
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes plaintext, SecretBytes::Allocate(body.size()));
  const CipherContext cipher = StartAesGcm(context, aad, Operation::kOpen);
  unsigned char nothing[kHpkeTagSize];
  int size = 0;
  if (cipher == nullptr || !Update(cipher.get(), body, plaintext.bytes()) ||
      ::EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_SET_TAG, kHpkeTagSize,
                            const_cast<std::byte*>(tag.data())) != 1 ||
      ::EVP_CipherFinal_ex(cipher.get(), nothing, &size) != 1) {
    return denied;
  }
  return plaintext;
}

}  // namespace sealift::keys
