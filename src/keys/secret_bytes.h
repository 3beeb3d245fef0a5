// Memory for secrets: keys, sub-keys, AES key schedules, GHASH tables, ephemeral private keys.
#pragma once

#include <cstddef>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sealift::keys {

// SecretBacking says what kind of memory holds secrets on this machine.
enum class SecretBacking {
  kMemfdSecret,   // memfd_secret(2): not in the kernel's direct map, unreadable through /proc/PID/mem
  kLockedMemory,  // mmap + mlock + MADV_DONTDUMP, where the kernel has no memfd_secret
};

// SecretBackingName gives "memfd_secret" or "mlock".
[[nodiscard]] std::string_view SecretBackingName(SecretBacking backing);

// SecretBytes owns whole pages that hold one secret. They are locked, left out of core files, not inherited by
// fork (MADV_DONTFORK), and zeroed before they are released. Movable, not copyable, has no formatter.
// 64-byte aligned. Not thread-safe.
class SecretBytes {
 public:
  // Allocate gives `size` zero bytes. RESOURCE_EXHAUSTED when RLIMIT_MEMLOCK does not allow it.
  [[nodiscard]] static absl::StatusOr<SecretBytes> Allocate(std::size_t size);

  SecretBytes() = default;
  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  // Zeroes and unmaps.
  ~SecretBytes();

  [[nodiscard]] base::MutableByteSpan bytes() { return {data_, size_}; }
  [[nodiscard]] base::ByteSpan bytes() const { return {data_, size_}; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  SecretBytes(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  void Release();

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// ProbeSecretBacking says which memory SecretBytes::Allocate uses in this process.
[[nodiscard]] SecretBacking ProbeSecretBacking();

// ForbidDumping makes the process undumpable: no core file, no ptrace by its own user (PR_SET_DUMPABLE).
[[nodiscard]] absl::Status ForbidDumping();

// Cleanse overwrites memory in a way the compiler does not remove.
void Cleanse(base::MutableByteSpan bytes);

// ConstantTimeEqual compares two byte strings of the same length without a secret-dependent branch;
// different lengths are unequal.
[[nodiscard]] bool ConstantTimeEqual(base::ByteSpan a, base::ByteSpan b);

}  // namespace sealift::keys
