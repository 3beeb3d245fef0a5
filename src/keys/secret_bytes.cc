#include "keys/secret_bytes.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"

namespace sealift::keys {
namespace {

// Debian 12's glibc has no wrapper for memfd_secret(2).
base::UniqueFd OpenMemfdSecret() {
  return base::UniqueFd(static_cast<int>(::syscall(SYS_memfd_secret, O_CLOEXEC)));
}

std::size_t MappedSize(std::size_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (std::max<std::size_t>(size, 1) + page - 1) / page * page;
}

absl::Status AllocationError(std::size_t size, int error_number) {
  const std::string what = fmt::format("allocate {} bytes of locked memory for a secret", size);
  const bool over_limit = error_number == EAGAIN || error_number == ENOMEM || error_number == EPERM;
  if (!over_limit) return base::ErrnoStatus(what, error_number);
  return absl::ResourceExhaustedError(
      fmt::format("{}: over the limit: raise RLIMIT_MEMLOCK (LimitMEMLOCK= of the service)", what));
}

// The mappings below are null on failure, with errno set.

std::byte* OrNull(void* mapping) {
  return mapping == MAP_FAILED ? nullptr : static_cast<std::byte*>(mapping);
}

// The kernel locks memfd_secret pages by itself.
std::byte* MapMemfdSecret(std::size_t mapped_size) {
  const base::UniqueFd fd = OpenMemfdSecret();
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(mapped_size)) != 0) return nullptr;
  return OrNull(::mmap(nullptr, mapped_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
}

// MAP_LOCKED does not promise that the pages are there already, but that they never reach swap.
std::byte* MapLockedMemory(std::size_t mapped_size) {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED;
  return OrNull(::mmap(nullptr, mapped_size, PROT_READ | PROT_WRITE, kFlags, -1, 0));
}

}  // namespace

std::string_view SecretBackingName(SecretBacking backing) {
  return backing == SecretBacking::kMemfdSecret ? "memfd_secret" : "mlock";
}

SecretBacking ProbeSecretBacking() {
  static const SecretBacking backing =
      OpenMemfdSecret().valid() ? SecretBacking::kMemfdSecret : SecretBacking::kLockedMemory;
  return backing;
}

absl::StatusOr<SecretBytes> SecretBytes::Allocate(std::size_t size) {
  return AllocateIn(ProbeSecretBacking(), size);
}

absl::StatusOr<SecretBytes> SecretBytes::AllocateIn(SecretBacking backing, std::size_t size) {
  const std::size_t mapped_size = MappedSize(size);
  std::byte* data = backing == SecretBacking::kMemfdSecret ? MapMemfdSecret(mapped_size)
                                                           : MapLockedMemory(mapped_size);
  if (data == nullptr) return AllocationError(size, errno);
  SecretBytes secret(data, size);
  for (const int advice : {MADV_DONTFORK, MADV_DONTDUMP}) {
    if (::madvise(data, mapped_size, advice) != 0) return AllocationError(size, errno);
  }
  return secret;
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  if (this == &other) return *this;
  Release();
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

SecretBytes::~SecretBytes() { Release(); }

void SecretBytes::Release() {
  if (data_ == nullptr) return;
  Cleanse(bytes());
  ::munmap(data_, MappedSize(size_));
}

absl::Status ForbidDumping() {
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0) return absl::OkStatus();
  return base::ErrnoStatus("make the process undumpable", errno);
}

void Cleanse(base::MutableByteSpan bytes) {
  if (!bytes.empty()) ::explicit_bzero(bytes.data(), bytes.size());
}

bool ConstantTimeEqual(base::ByteSpan a, base::ByteSpan b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace sealift::keys
