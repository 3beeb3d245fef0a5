#include "keys/p521.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>

#include <algorithm>
#include <memory>
#include <ranges>

#include "base/status.h"
#include "keys/c_interop.h"
#include "keys/hpke.h"

namespace sealift::keys {
namespace {

using Number = std::unique_ptr<BIGNUM, FreeWith<::BN_clear_free>>;
using NumberContext = std::unique_ptr<BN_CTX, FreeWith<::BN_CTX_free>>;
using Group = std::unique_ptr<EC_GROUP, FreeWith<::EC_GROUP_free>>;
using Point = std::unique_ptr<EC_POINT, FreeWith<::EC_POINT_clear_free>>;
using Key = std::unique_ptr<EVP_PKEY, FreeWith<::EVP_PKEY_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeWith<::EVP_PKEY_CTX_free>>;

constexpr std::byte kUncompressed{0x04};

// A refused point leaves entries in the thread's OpenSSL error queue, where TLS would find them.
class ErrorQueueMark {
 public:
  ErrorQueueMark() { ::ERR_set_mark(); }
  ~ErrorQueueMark() { ::ERR_pop_to_mark(); }
  ErrorQueueMark(const ErrorQueueMark&) = delete;
  ErrorQueueMark& operator=(const ErrorQueueMark&) = delete;
};

absl::Status OpensslError() { return absl::InternalError("P-521: OpenSSL failed"); }

Group MakeGroup() { return Group(::EC_GROUP_new_by_curve_name(NID_secp521r1)); }

Number ToNumber(const SecretBytes& scalar) {
  Number number(::BN_secure_new());
  const auto size = static_cast<int>(scalar.size());
  if (number == nullptr || ::BN_bin2bn(Octets(scalar.bytes()), size, number.get()) == nullptr) {
    return nullptr;
  }
  ::BN_set_flags(number.get(), BN_FLG_CONSTTIME);
  return number;
}

Key KeyFromParameters(int selection, OSSL_PARAM* parameters) {
  const KeyContext context(::EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  EVP_PKEY* key = nullptr;
  if (context == nullptr || ::EVP_PKEY_fromdata_init(context.get()) != 1 ||
      ::EVP_PKEY_fromdata(context.get(), &key, selection, parameters) != 1) {
    return nullptr;
  }
  return Key(key);
}

OSSL_PARAM CurveParameter() {
  static char curve[] = "P-521";
  return ::OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0);
}

// The point is on the curve and not infinity (SP 800-56A §5.6.2.3.4), or null.
Key ToPublicKey(base::ByteSpan point) {
  if (point.size() != kHpkePublicKeySize || point[0] != kUncompressed) return nullptr;
  OSSL_PARAM parameters[] = {
      CurveParameter(),
      ::OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY,
                                          const_cast<std::byte*>(point.data()), point.size()),
      ::OSSL_PARAM_construct_end()};
  Key key = KeyFromParameters(EVP_PKEY_PUBLIC_KEY, parameters);
  if (key == nullptr) return nullptr;
  const KeyContext context(::EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr));
  if (context == nullptr || ::EVP_PKEY_public_check_quick(context.get()) != 1) return nullptr;
  return key;
}

// OpenSSL takes numbers in the machine's byte order; sealift runs on little-endian machines only.
absl::StatusOr<Key> ToPrivateKey(const SecretBytes& scalar) {
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes little, SecretBytes::Allocate(scalar.size()));
  std::ranges::reverse_copy(scalar.bytes(), little.bytes().begin());
  OSSL_PARAM parameters[] = {
      CurveParameter(),
      ::OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_PRIV_KEY, MutableOctets(little.bytes()),
                                little.size()),
      ::OSSL_PARAM_construct_end()};
  Key key = KeyFromParameters(EVP_PKEY_KEYPAIR, parameters);
  if (key == nullptr) return OpensslError();
  return key;
}

}  // namespace

bool IsP521Scalar(const SecretBytes& scalar) {
  const Group group = MakeGroup();
  const Number number = ToNumber(scalar);
  return group != nullptr && number != nullptr && ::BN_is_zero(number.get()) == 0 &&
         ::BN_cmp(number.get(), ::EC_GROUP_get0_order(group.get())) < 0;
}

absl::StatusOr<base::Bytes> P521PublicKey(const SecretBytes& scalar) {
  const Group group = MakeGroup();
  const Number number = ToNumber(scalar);
  const NumberContext context(::BN_CTX_secure_new());
  if (group == nullptr || number == nullptr || context == nullptr) return OpensslError();
  const Point point(::EC_POINT_new(group.get()));
  if (point == nullptr || ::EC_POINT_mul(group.get(), point.get(), number.get(), nullptr, nullptr,
                                         context.get()) != 1) {
    return OpensslError();
  }
  base::Bytes encoded(kHpkePublicKeySize);
  if (::EC_POINT_point2oct(group.get(), point.get(), POINT_CONVERSION_UNCOMPRESSED,
                           MutableOctets(encoded), encoded.size(),
                           context.get()) != kHpkePublicKeySize) {
    return OpensslError();
  }
  return encoded;
}

absl::StatusOr<SecretBytes> P521SharedSecret(const SecretBytes& scalar, base::ByteSpan peer) {
  const ErrorQueueMark mark;
  const Key peer_key = ToPublicKey(peer);
  if (peer_key == nullptr) return absl::InvalidArgumentError("not a public key of P-521");
  SEALIFT_ASSIGN_OR_RETURN(const Key own_key, ToPrivateKey(scalar));
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes shared, SecretBytes::Allocate(kP521ScalarSize));
  const KeyContext context(::EVP_PKEY_CTX_new_from_pkey(nullptr, own_key.get(), nullptr));
  std::size_t size = shared.size();
  if (context == nullptr || ::EVP_PKEY_derive_init(context.get()) != 1 ||
      ::EVP_PKEY_derive_set_peer_ex(context.get(), peer_key.get(), 0) != 1 ||
      ::EVP_PKEY_derive(context.get(), MutableOctets(shared.bytes()), &size) != 1 ||
      size != shared.size()) {
    return OpensslError();
  }
  return shared;
}

}  // namespace sealift::keys
