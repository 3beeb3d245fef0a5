#include "pki/key_encryption.h"

#include <openssl/err.h>
#include <openssl/pkcs12.h>

#include "base/status.h"
#include "pki/openssl.h"

namespace sealift::pki {
namespace {

// PBKDF2 rather than scrypt: a FIPS provider has it.
constexpr int kRounds = 600'000;
constexpr int kSaltBytes = 16;

using KeyInfoPtr = Owned<PKCS8_PRIV_KEY_INFO, PKCS8_PRIV_KEY_INFO_free>;
using EncryptedPtr = Owned<X509_SIG, X509_SIG_free>;
using AlgorithmPtr = Owned<X509_ALGOR, X509_ALGOR_free>;

}  // namespace

absl::StatusOr<std::string> EncryptPrivateKey(const std::string& key_pem,
                                              const std::string& passphrase) {
  SEALIFT_ASSIGN_OR_RETURN(const KeyPtr key, ParsePrivateKey(key_pem));
  const KeyInfoPtr info(EVP_PKEY2PKCS8(key.get()));
  // Without salt and IV: random ones.
  AlgorithmPtr algorithm(PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), kRounds, nullptr, kSaltBytes, nullptr,
                                           NID_hmacWithSHA512));
  if (!info || !algorithm) {
    return OpenSslError(absl::StatusCode::kInternal, "prepare to encrypt a private key");
  }
  const EncryptedPtr encrypted(PKCS8_set0_pbe(
      passphrase.data(), static_cast<int>(passphrase.size()), info.get(), algorithm.get()));
  if (!encrypted) return OpenSslError(absl::StatusCode::kInternal, "encrypt a private key");
  static_cast<void>(algorithm.release());  // it is the other's now
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_PKCS8(bio.get(), encrypted.get()) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "write an encrypted private key");
  }
  return TextOf(bio.get());
}

absl::StatusOr<std::string> DecryptPrivateKey(const std::string& encrypted_pem,
                                              const std::string& passphrase) {
  const BioPtr bio = ReadOnly(encrypted_pem);
  const EncryptedPtr encrypted(PEM_read_bio_PKCS8(bio.get(), nullptr, nullptr, nullptr));
  if (!encrypted) {
    return OpenSslError(absl::StatusCode::kInvalidArgument, "read an encrypted private key");
  }
  const KeyInfoPtr info(
      PKCS8_decrypt(encrypted.get(), passphrase.data(), static_cast<int>(passphrase.size())));
  const KeyPtr key(info ? EVP_PKCS82PKEY(info.get()) : nullptr);
  if (!key || !CheckKeyKind(key.get()).ok()) {
    ERR_clear_error();
    return absl::PermissionDeniedError("the passphrase is not the one the key was encrypted with");
  }
  return PrivateKeyToPem(key.get());
}

}  // namespace sealift::pki
