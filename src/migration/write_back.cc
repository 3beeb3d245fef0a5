#include "migration/write_back.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace sealift::migration {

absl::StatusOr<bool> WriteBack::Wait(base::Duration timeout, std::stop_token stop) {
  if (!call_) {
    began_ = clock_.SinceBoot();
    call_.emplace(vm_.DiskWriteBack());
  }
  const std::optional<absl::Status> written = call_->Wait(timeout, std::move(stop));
  const base::Duration took = clock_.SinceBoot() - began_;
  if (!written) {
    if (took < kWriteBackLimit) return false;
    return absl::DeadlineExceededError(
        fmt::format("the disks were not written back within {} min: is their storage stuck?",
                    kWriteBackLimit.count()));
  }
  call_.reset();
  if (!written->ok()) spdlog::warn("VM {}: {}", vm_.definition().name, base::MessageOf(*written));
  return !written->ok() || took <= kQuickWriteBack || ++done_ == kWriteBacks;
}

}  // namespace sealift::migration
