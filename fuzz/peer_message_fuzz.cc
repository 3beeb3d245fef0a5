// What the other host's agent may send over the control stream. Whatever it was, what comes out is
// UTF-8, and a message whose text is UTF-8 has exactly one encoding.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "base/utf8.h"
#include "migration/peer_message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift;
  const base::ByteSpan bytes = std::as_bytes(std::span(data, size));
  const auto message = migration::DecodePeerMessage(bytes);
  if (message.ok()) {
    SEALIFT_CHECK(base::IsUtf8(message->text));
    const bool was_utf8 = base::IsUtf8(base::AsText(bytes.subspan(1)));
    SEALIFT_CHECK(was_utf8 == std::ranges::equal(migration::EncodePeerMessage(*message), bytes));
  }
  return 0;
}
