// Short ways to make secrets for tests of this library and of those above it.
#pragma once

#include <algorithm>
#include <string_view>

#include "base/bytes.h"
#include "keys/random.h"
#include "keys/secret_bytes.h"

namespace sealift::keys::testing {

// Hex aborts the test on anything but hexadecimal digits.
inline base::Bytes Hex(std::string_view digits) { return base::FromHex(digits).value(); }

// Secret puts bytes where secrets live.
inline SecretBytes Secret(base::ByteSpan bytes) {
  SecretBytes secret = SecretBytes::Allocate(bytes.size()).value();
  std::ranges::copy(bytes, secret.bytes().begin());
  return secret;
}

// CountingRandom gives first, first + 1, first + 2, ... Not random: for tests and fuzz targets.
class CountingRandom final : public RandomSource {
 public:
  explicit CountingRandom(std::uint8_t first = 0) : next_(first) {}
  absl::Status Fill(base::MutableByteSpan bytes) override {
    for (std::byte& byte : bytes) byte = std::byte{next_++};
    return absl::OkStatus();
  }

 private:
  std::uint8_t next_;
};

}  // namespace sealift::keys::testing
