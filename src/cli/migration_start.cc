#include "cli/migration_start.h"

#include <fmt/format.h>

#include <random>

namespace sealift::cli {

std::string MakeRequestId() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

bool AnswerIsLost(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace sealift::cli
