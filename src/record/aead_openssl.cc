#include <openssl/evp.h>

#include <utility>

#include "base/check.h"
#include "keys/c_interop.h"
#include "record/aead_backends.h"
#include "record/record_format.h"

namespace sealift::record {
namespace {

using keys::MutableOctets;
using keys::Octets;
using Context = std::unique_ptr<EVP_CIPHER_CTX, keys::FreeWith<::EVP_CIPHER_CTX_free>>;

// Fetching walks the providers: once per process is enough.
const EVP_CIPHER* Cipher() {
  static const EVP_CIPHER* const cipher = ::EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  return cipher;
}

class OpensslAead final : public Aead {
 public:
  explicit OpensslAead(Context context) : context_(std::move(context)) {}

  // With the key set, none of these calls depends on a peer's bytes or fails on a length this
  // library uses: a failure is a bug.
  void Seal(base::ByteSpan iv, base::ByteSpan aad, base::ByteSpan plaintext,
            base::MutableByteSpan ciphertext, base::MutableByteSpan tag) override {
    SEALIFT_CHECK(tag.size() == kTagSize);
    Start(Operation::kSeal, iv, aad);
    Update(plaintext, ciphertext);
    unsigned char nothing[kTagSize];
    int size = 0;
    SEALIFT_CHECK(::EVP_EncryptFinal_ex(context_.get(), nothing, &size) == 1);
    SEALIFT_CHECK(::EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kTagSize,
                                        MutableOctets(tag)) == 1);
  }

  bool Open(base::ByteSpan iv, base::ByteSpan aad, base::ByteSpan ciphertext, base::ByteSpan tag,
            base::MutableByteSpan plaintext) override {
    SEALIFT_CHECK(tag.size() == kTagSize);
    Start(Operation::kOpen, iv, aad);
    Update(ciphertext, plaintext);
    // OpenSSL takes a non-const pointer that it only reads, and compares in constant time.
    SEALIFT_CHECK(::EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_SET_TAG, kTagSize,
                                        const_cast<std::byte*>(tag.data())) == 1);
    unsigned char nothing[kTagSize];
    int size = 0;
    const bool authentic = ::EVP_DecryptFinal_ex(context_.get(), nothing, &size) == 1;
    if (!authentic) keys::Cleanse(plaintext);
    return authentic;
  }

 private:
  enum class Operation : int { kOpen = 0, kSeal = 1 };

  void Start(Operation operation, base::ByteSpan iv, base::ByteSpan aad) {
    SEALIFT_CHECK(iv.size() == kIvSize);
    SEALIFT_CHECK(::EVP_CipherInit_ex(context_.get(), nullptr, nullptr, nullptr, Octets(iv),
                                      static_cast<int>(operation)) == 1);
    if (aad.empty()) return;
    int size = 0;
    SEALIFT_CHECK(::EVP_CipherUpdate(context_.get(), nullptr, &size, Octets(aad),
                                     static_cast<int>(aad.size())) == 1);
  }

  void Update(base::ByteSpan from, base::MutableByteSpan to) {
    SEALIFT_CHECK(from.size() == to.size() && from.size() <= (std::size_t{1} << 30));
    if (from.empty()) return;
    int size = 0;
    SEALIFT_CHECK(::EVP_CipherUpdate(context_.get(), MutableOctets(to), &size, Octets(from),
                                     static_cast<int>(from.size())) == 1);
    SEALIFT_CHECK(static_cast<std::size_t>(size) == from.size());
  }

  Context context_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Aead>> MakeOpensslAead(const keys::SecretBytes& key) {
  Context context(::EVP_CIPHER_CTX_new());
  if (Cipher() == nullptr || context == nullptr ||
      ::EVP_EncryptInit_ex2(context.get(), Cipher(), Octets(key.bytes()), nullptr, nullptr) != 1) {
    return absl::UnavailableError("OpenSSL has no AES-256-GCM: check its configuration file");
  }
  return std::make_unique<OpensslAead>(std::move(context));
}

}  // namespace sealift::record
