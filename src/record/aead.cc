#include "record/aead.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/status.h"
#include "keys/key_schedule.h"
#include "record/aead_backends.h"
#include "record/record_format.h"

namespace sealift::record {
namespace {

// A known answer of the NIST CAVP GCM test vectors (gcmEncryptExtIV256, PTlen 408, AADlen 160,
// Count 0).
struct KnownAnswer {
  base::Bytes key;
  base::Bytes iv;
  base::Bytes aad;
  base::Bytes plaintext;
  base::Bytes ciphertext;
  base::Bytes tag;
};

base::Bytes Hex(std::string_view digits) { return base::FromHex(digits).value(); }

KnownAnswer MakeKnownAnswer() {
  return {
      .key = Hex("24501ad384e473963d476edcfe08205237acfd49b5b8f33857f8114e863fec7f"),
      .iv = Hex("9ff18563b978ec281b3f2794"),
      .aad = Hex("adb5ec720ccf9898500028bf34afccbcaca126ef"),
      .plaintext = Hex("27f348f9cdc0c5bd5e66b1ccb63ad920ff2219d14e8d631b3872265cf117ee86757accb158b"
                       "d9abb3868fdc0d0b074b5f01b2c"),
      .ciphertext = Hex("eb7cb754c824e8d96f7c6d9b76c7d26fb874ffbf1d65c6f64a698d839b0b06145dae82057a"
                        "d55994cf59ad7f67c0fa5e85fab8"),
      .tag = Hex("bc95c532fecc594c36d1550286a7a3f0"),
  };
}

absl::Status SelfTestError(AeadBackend backend, std::string_view what) {
  return absl::InternalError(
      fmt::format("AES-256-GCM self-test of {}: {}", AeadBackendName(backend), what));
}

absl::StatusOr<std::unique_ptr<Aead>> MakeAeadOf(AeadBackend backend, base::ByteSpan key) {
  SEALIFT_ASSIGN_OR_RETURN(keys::SecretBytes secret, keys::SecretBytes::Allocate(key.size()));
  std::ranges::copy(key, secret.bytes().begin());
  return MakeAead(backend, secret);
}

bool SealsRight(Aead& aead, const KnownAnswer& known) {
  base::Bytes ciphertext(known.plaintext.size());
  base::Bytes tag(kTagSize);
  aead.Seal(known.iv, known.aad, known.plaintext, ciphertext, tag);
  return ciphertext == known.ciphertext && tag == known.tag;
}

bool OpensRight(Aead& aead, const KnownAnswer& known) {
  base::Bytes plaintext(known.ciphertext.size());
  return aead.Open(known.iv, known.aad, known.ciphertext, known.tag, plaintext) &&
         plaintext == known.plaintext;
}

bool RefusesForgery(Aead& aead, KnownAnswer known) {
  known.tag.back() ^= std::byte{1};
  base::Bytes plaintext(known.ciphertext.size());
  return !aead.Open(known.iv, known.aad, known.ciphertext, known.tag, plaintext);
}

}  // namespace

std::string_view AeadBackendName(AeadBackend backend) {
  return backend == AeadBackend::kIpsecMb ? "ipsec-mb" : "openssl";
}

std::optional<AeadBackend> ParseAeadBackend(std::string_view name) {
  for (const AeadBackend backend : {AeadBackend::kIpsecMb, AeadBackend::kOpenssl}) {
    if (name == AeadBackendName(backend)) return backend;
  }
  return std::nullopt;
}

absl::StatusOr<std::unique_ptr<Aead>> MakeAead(AeadBackend backend, const keys::SecretBytes& key) {
  SEALIFT_CHECK(key.size() == keys::kAesKeySize);
  return backend == AeadBackend::kIpsecMb ? MakeIpsecMbAead(key) : MakeOpensslAead(key);
}

absl::Status SelfTest(AeadBackend backend) {
  const KnownAnswer known = MakeKnownAnswer();
  SEALIFT_ASSIGN_OR_RETURN(const std::unique_ptr<Aead> aead, MakeAeadOf(backend, known.key));
  if (!SealsRight(*aead, known)) return SelfTestError(backend, "wrong ciphertext or tag");
  if (!OpensRight(*aead, known)) return SelfTestError(backend, "a good record was refused");
  if (!RefusesForgery(*aead, known)) return SelfTestError(backend, "a forged record was opened");
  return absl::OkStatus();
}

absl::StatusOr<AeadBackend> BestBackend() {
  const absl::Status fast = SelfTest(AeadBackend::kIpsecMb);
  if (fast.ok()) return AeadBackend::kIpsecMb;
  if (!absl::IsUnavailable(fast)) return fast;
  return CheckedBackend(AeadBackend::kOpenssl);
}

absl::StatusOr<AeadBackend> CheckedBackend(std::optional<AeadBackend> wanted) {
  if (!wanted) return BestBackend();
  SEALIFT_RETURN_IF_ERROR(SelfTest(*wanted));
  return *wanted;
}

}  // namespace sealift::record
