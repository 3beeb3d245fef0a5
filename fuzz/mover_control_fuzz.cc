// What a mover that foreign bytes have taken over may say to its agent. What is accepted must
// survive being written and read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "mover/control.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift::mover;
  const auto first = DecodeControl({reinterpret_cast<const char*>(data), size});
  if (!first.ok()) return 0;
  const std::string written = EncodeControl(*first);
  const auto second = DecodeControl(written);
  SEALIFT_CHECK(second.ok());
  SEALIFT_CHECK(second->index() == first->index());
  SEALIFT_CHECK(EncodeControl(*second) == written);
  return 0;
}
