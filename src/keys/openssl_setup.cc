#include "keys/openssl_setup.h"

#include <fmt/format.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/provider.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/status.h"
#include "keys/secret_bytes.h"

namespace sealift::keys {
namespace {

// A private key takes 128 bytes of it, the random generators of a thread about 1 KiB. OpenSSL fails
// when it is full, so it is far larger than what a thousand threads need.
constexpr std::size_t kSecureHeapBytes = std::size_t{4} * 1024 * 1024;
constexpr std::size_t kSmallestBlock = 32;

// Which copies of secrets OpenSSL cleanses, and which it frees as they are, differs from version to
// version and from build to build. So nothing that it frees keeps its content.

void CleansingFree(void* block, const char* /*file*/, int /*line*/) {
  if (block == nullptr) return;
  Cleanse({static_cast<std::byte*>(block), ::malloc_usable_size(block)});
  std::free(block);
}

void* PlainMalloc(std::size_t size, const char* /*file*/, int /*line*/) {
  return std::malloc(size);
}

// A block that grows is copied by us: the C library would leave the old one as it is.
void* CleansingRealloc(void* block, std::size_t size, const char* file, int line) {
  const std::size_t had = block == nullptr ? 0 : ::malloc_usable_size(block);
  if (size != 0 && size <= had) return block;
  void* grown = size == 0 ? nullptr : std::malloc(size);
  if (grown == nullptr && size != 0) return nullptr;
  if (had != 0 && grown != nullptr) std::memcpy(grown, block, had);
  CleansingFree(block, file, line);
  return grown;
}

absl::Status CleanseWhatIsFreed() {
  if (::CRYPTO_set_mem_functions(PlainMalloc, CleansingRealloc, CleansingFree) == 1) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError("OpenSSL was used before it was set up");
}

absl::Status MakeSecureHeap() {
  // 2 means: made, but not locked or not guarded.
  if (::CRYPTO_secure_malloc_init(kSecureHeapBytes, kSmallestBlock) == 1) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      fmt::format("OpenSSL cannot lock {} KiB of memory for private keys: raise RLIMIT_MEMLOCK "
                  "(LimitMEMLOCK= of the service)",
                  kSecureHeapBytes / 1024));
}

// The providers stay for the life of the process. Loading one by name keeps the default one out.
absl::Status UseFips() {
  // The base provider has the encodings of keys and certificates, and no cryptography.
  if (::OSSL_PROVIDER_load(nullptr, "fips") != nullptr &&
      ::OSSL_PROVIDER_load(nullptr, "base") != nullptr &&
      ::EVP_default_properties_enable_fips(nullptr, 1) == 1) {
    return absl::OkStatus();
  }
  ::ERR_clear_error();
  return absl::FailedPreconditionError(fmt::format(
      "crypto.fips is true, but OpenSSL cannot load a FIPS provider: install a fips.so ({}) and "
      "include the fipsmodule.cnf that 'openssl fipsinstall' makes in openssl.cnf, or set "
      "crypto.fips to false",
      ::OpenSSL_version(OPENSSL_MODULES_DIR)));
}

}  // namespace

absl::Status SetUpOpenssl(Provider provider) {
  SEALIFT_RETURN_IF_ERROR(CleanseWhatIsFreed());
  SEALIFT_RETURN_IF_ERROR(MakeSecureHeap());
  return provider == Provider::kFips ? UseFips() : absl::OkStatus();
}

}  // namespace sealift::keys
