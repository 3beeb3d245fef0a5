#include "keys/hpke.h"

#include <utility>

#include "base/status.h"
#include "keys/hpke_suite.h"
#include "keys/p521.h"
#include "keys/random.h"

namespace sealift::keys {
namespace {

absl::StatusOr<HpkeKeyPair> GenerateKeyPair() {
  SystemRandom random;
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes input_key, SecretBytes::Allocate(kP521ScalarSize));
  SEALIFT_RETURN_IF_ERROR(random.Fill(input_key.bytes()));
  return DeriveHpkeKeyPair(input_key);
}

absl::StatusOr<SecretBytes> OpenBase(const HpkeKeyPair& receiver, base::ByteSpan sealed,
                                     base::ByteSpan info) {
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes shared_secret,
                           HpkeDecapsulate(receiver, sealed.first(kHpkePublicKeySize)));
  SEALIFT_ASSIGN_OR_RETURN(const HpkeContext context, HpkeKeySchedule(shared_secret, info));
  return HpkeOpenMessage(context, {}, sealed.subspan(kHpkePublicKeySize));
}

class EphemeralReceiver final : public HpkeReceiver {
 public:
  explicit EphemeralReceiver(HpkeKeyPair pair) : pair_(std::move(pair)) {}

  [[nodiscard]] base::Bytes PublicKey() const override { return pair_.public_key; }

  absl::StatusOr<SecretBytes> Open(base::ByteSpan sealed, base::ByteSpan info) override {
    const HpkeKeyPair pair{std::exchange(pair_.private_key, {}), pair_.public_key};
    if (pair.private_key.size() == 0 || sealed.size() < kHpkePublicKeySize) return Denied();
    absl::StatusOr<SecretBytes> secret = OpenBase(pair, sealed, info);
    if (!secret.ok() && !absl::IsResourceExhausted(secret.status())) return Denied();
    return secret;
  }

 private:
  // One answer to every forgery, so that none learns more than "no".
  static absl::Status Denied() {
    return absl::PermissionDeniedError(
        "the sealed migration key does not open: it is damaged, was made for another mover or "
        "migration, or was opened before");
  }

  HpkeKeyPair pair_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HpkeReceiver>> HpkeReceiver::Generate() {
  SEALIFT_ASSIGN_OR_RETURN(HpkeKeyPair pair, GenerateKeyPair());
  return std::make_unique<EphemeralReceiver>(std::move(pair));
}

absl::StatusOr<base::Bytes> HpkeSeal(base::ByteSpan public_key, base::ByteSpan info,
                                     const SecretBytes& secret) {
  SEALIFT_ASSIGN_OR_RETURN(const HpkeKeyPair ephemeral, GenerateKeyPair());
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes shared_secret, HpkeEncapsulate(ephemeral, public_key));
  SEALIFT_ASSIGN_OR_RETURN(const HpkeContext context, HpkeKeySchedule(shared_secret, info));
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes message, HpkeSealMessage(context, {}, secret.bytes()));
  base::Bytes sealed = ephemeral.public_key;
  base::Append(sealed, message);
  return sealed;
}

}  // namespace sealift::keys
