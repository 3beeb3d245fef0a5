// Memory for secrets: keys, sub-keys, AES key schedules, GHASH tables, ephemeral private keys.
#pragma once

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sealift::keys {

// SecretBacking says what kind of memory holds a secret.
enum class SecretBacking {
  kMemfdSecret,   // memfd_secret(2): not in the kernel's direct map, unreadable through
                  // /proc/PID/mem
  kLockedMemory,  // locked anonymous pages, where the kernel has no memfd_secret
};

// SecretBackingName gives "memfd_secret" or "mlock".
[[nodiscard]] std::string_view SecretBackingName(SecretBacking backing);

// ProbeSecretBacking says which memory SecretBytes::Allocate uses in this process. It asks the
// kernel once; the answer never changes. Thread-safe.
[[nodiscard]] SecretBacking ProbeSecretBacking();

// SecretBytes owns whole pages that hold one secret. They are locked, left out of core files, not
// inherited by fork (MADV_DONTFORK), and zeroed before they are released. Movable, not copyable,
// has no formatter. Page-aligned. Not thread-safe.
//
// In a forked child the pages do not exist: touching or destroying a SecretBytes there is a
// segmentation fault. A child only execs or calls _exit.
class SecretBytes {
 public:
  // Allocate gives `size` zero bytes of the memory ProbeSecretBacking names. RESOURCE_EXHAUSTED
  // when RLIMIT_MEMLOCK does not allow it. A size of 0 is allowed.
  [[nodiscard]] static absl::StatusOr<SecretBytes> Allocate(std::size_t size);

  // AllocateIn is Allocate with a given kind of memory.
  [[nodiscard]] static absl::StatusOr<SecretBytes> AllocateIn(SecretBacking backing,
                                                              std::size_t size);

  SecretBytes() = default;
  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  // Zeroes and unmaps.
  ~SecretBytes();

  // The secret itself; valid as long as this object.
  [[nodiscard]] base::MutableByteSpan bytes() { return {data_, size_}; }
  [[nodiscard]] base::ByteSpan bytes() const { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  SecretBytes(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  void Release();

  std::byte* data_ = nullptr;  // start of whole pages, or null
  std::size_t size_ = 0;
};

// ForbidDumping makes the process undumpable: no core file, no ptrace by its own user
// (PR_SET_DUMPABLE). An exec undoes it.
[[nodiscard]] absl::Status ForbidDumping();

// Cleanse overwrites memory in a way the compiler does not remove.
void Cleanse(base::MutableByteSpan bytes);

// ConstantTimeEqual compares two byte strings of the same length without a secret-dependent branch;
// different lengths are unequal.
[[nodiscard]] bool ConstantTimeEqual(base::ByteSpan a, base::ByteSpan b);

}  // namespace sealift::keys
