// Random bytes.
#pragma once

#include "absl/status/status.h"
#include "base/bytes.h"

namespace sealift::keys {

// RandomSource fills buffers with random bytes. Production code is wired with SystemRandom; tests
// of the library may pass a known one. No daemon has a switch for it.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  // Fill is thread-safe. An error means no byte may be used.
  [[nodiscard]] virtual absl::Status Fill(base::MutableByteSpan bytes) = 0;
};

// SystemRandom is getrandom(2), the kernel's CSPRNG.
class SystemRandom final : public RandomSource {
 public:
  [[nodiscard]] absl::Status Fill(base::MutableByteSpan bytes) override;
};

}  // namespace sealift::keys
