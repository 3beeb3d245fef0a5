// A VM definition as an operator may upload it. What is accepted must survive being written and
// read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "hypervisor/vm_definition.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift::hypervisor;
  const auto first = ParseVmDefinition({reinterpret_cast<const char*>(data), size});
  if (!first.ok()) return 0;
  const auto second = ParseVmDefinition(FormatVmDefinition(*first));
  SEALIFT_CHECK(second.ok());
  SEALIFT_CHECK(*second == *first);
  return 0;
}
