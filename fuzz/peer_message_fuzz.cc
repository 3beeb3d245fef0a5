// What the other host's agent may send over the control stream. Every accepted message has exactly
// one encoding.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "migration/peer_message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift;
  const base::ByteSpan bytes = std::as_bytes(std::span(data, size));
  const auto message = migration::DecodePeerMessage(bytes);
  if (message.ok()) {
    SEALIFT_CHECK(std::ranges::equal(migration::EncodePeerMessage(*message), bytes));
  }
  return 0;
}
