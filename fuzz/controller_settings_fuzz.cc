// controller.yaml: any text is read or refused as INVALID_ARGUMENT, and what is read is within the
// limits that are documented.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "controller/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sealift;
  const std::string yaml(reinterpret_cast<const char*>(data), size);
  controller::Settings settings;
  const absl::Status applied = controller::ApplySettingsYaml("controller.yaml", yaml, settings);
  if (!applied.ok()) {
    SEALIFT_CHECK(absl::IsInvalidArgument(applied));
    return 0;
  }
  for (const std::uint32_t limit : {settings.limits.total, settings.limits.per_host}) {
    SEALIFT_CHECK(limit >= 1 && limit <= 1000);
  }
  const controller::Fencing& fencing = settings.fencing;
  SEALIFT_CHECK(fencing.command.empty() || fencing.command[0].starts_with('/'));
  SEALIFT_CHECK(fencing.timeout >= std::chrono::seconds(1) &&
                fencing.timeout <= std::chrono::hours(1));
  SEALIFT_CHECK(!settings.listen.empty() && !settings.state_dir.empty());
  return 0;
}
