// A context file that somebody was sent: any text is read or refused as INVALID_ARGUMENT, and
// what is read lacks nothing.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/unique_fd.h"
#include "cli/context.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift;
  const base::UniqueFd file(memfd_create("context", MFD_CLOEXEC));
  SEALIFT_CHECK(fchmod(file.get(), 0600) == 0);
  SEALIFT_CHECK(write(file.get(), data, size) == static_cast<ssize_t>(size));
  const absl::StatusOr<cli::Context> context =
      cli::ReadContext(fmt::format("/proc/self/fd/{}", file.get()));
  if (!context.ok()) {
    SEALIFT_CHECK(absl::IsInvalidArgument(context.status()));
    return 0;
  }
  SEALIFT_CHECK(!context->controller.empty() && !context->trust_domain.empty());
  SEALIFT_CHECK(!context->ca_pem.empty() && !context->identity_pem.empty());
  return 0;
}
