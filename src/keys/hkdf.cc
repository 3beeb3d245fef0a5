#include "keys/hkdf.h"

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <memory>

#include "base/check.h"
#include "base/status.h"
#include "keys/c_interop.h"

namespace sealift::keys {
namespace {

using MacPointer = std::unique_ptr<EVP_MAC, FreeWith<::EVP_MAC_free>>;
using MacContext = std::unique_ptr<EVP_MAC_CTX, FreeWith<::EVP_MAC_CTX_free>>;
using KdfPointer = std::unique_ptr<EVP_KDF, FreeWith<::EVP_KDF_free>>;
using KdfContext = std::unique_ptr<EVP_KDF_CTX, FreeWith<::EVP_KDF_CTX_free>>;

// OpenSSL takes non-const pointers for parameters it only reads.
OSSL_PARAM OctetParameter(const char* name, base::ByteSpan value) {
  return ::OSSL_PARAM_construct_octet_string(name, const_cast<std::byte*>(value.data()),
                                             value.size());
}

OSSL_PARAM DigestParameter(const char* name) {
  static char digest[] = "SHA512";
  return ::OSSL_PARAM_construct_utf8_string(name, digest, 0);
}

}  // namespace

void HmacSha512(base::ByteSpan key, std::initializer_list<base::ByteSpan> parts,
                base::MutableByteSpan mac) {
  // OpenSSL takes a null key for "the key already set": an empty key needs an address.
  static constexpr std::byte kNoKey{};
  const MacPointer algorithm(::EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  const MacContext context(::EVP_MAC_CTX_new(algorithm.get()));
  const OSSL_PARAM parameters[] = {DigestParameter(OSSL_MAC_PARAM_DIGEST),
                                   ::OSSL_PARAM_construct_end()};
  SEALIFT_CHECK(::EVP_MAC_init(context.get(),
                               key.empty() ? Octets(base::ByteSpan(&kNoKey, 1)) : Octets(key),
                               key.size(), parameters) == 1);
  for (const base::ByteSpan part : parts) {
    SEALIFT_CHECK(::EVP_MAC_update(context.get(), Octets(part), part.size()) == 1);
  }
  std::size_t size = 0;
  SEALIFT_CHECK(::EVP_MAC_final(context.get(), MutableOctets(mac), &size, mac.size()) == 1);
  SEALIFT_CHECK(size == kSha512Size);
}

// Extract is HMAC by definition. OpenSSL's own extract would keep a copy of the salt that it frees
// without cleansing, and HPKE's salt is a secret.
absl::StatusOr<SecretBytes> HkdfExtract(base::ByteSpan salt,
                                        std::initializer_list<base::ByteSpan> input_key) {
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes pseudo_random_key, SecretBytes::Allocate(kSha512Size));
  HmacSha512(salt, input_key, pseudo_random_key.bytes());
  return pseudo_random_key;
}

absl::StatusOr<SecretBytes> HkdfExpand(const SecretBytes& pseudo_random_key, base::ByteSpan info,
                                       std::size_t size) {
  if (size == 0 || size > 255 * kSha512Size) {
    return absl::InvalidArgumentError(fmt::format("HKDF cannot derive {} bytes", size));
  }
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes derived, SecretBytes::Allocate(size));
  const KdfPointer algorithm(::EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const KdfContext context(::EVP_KDF_CTX_new(algorithm.get()));
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  const OSSL_PARAM parameters[] = {::OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
                                   DigestParameter(OSSL_KDF_PARAM_DIGEST),
                                   OctetParameter(OSSL_KDF_PARAM_KEY, pseudo_random_key.bytes()),
                                   OctetParameter(OSSL_KDF_PARAM_INFO, info),
                                   ::OSSL_PARAM_construct_end()};
  if (::EVP_KDF_derive(context.get(), MutableOctets(derived.bytes()), size, parameters) != 1) {
    return absl::InternalError("OpenSSL could not expand a key with HKDF-SHA512");
  }
  return derived;
}

}  // namespace sealift::keys
