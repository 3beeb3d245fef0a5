// The data of a guest's disks that is only in the host's page cache.
#pragma once

#include <chrono>
#include <optional>
#include <stop_token>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/detached_call.h"
#include "hypervisor/hypervisor.h"

namespace sealift::migration {

// ---- Chosen by us ----

// What was written back in less leaves nothing to speak of for the time when the guest stands
// still.
inline constexpr std::chrono::milliseconds kQuickWriteBack{50};
// A guest that writes as fast as its disk takes it leaves more, each time.
inline constexpr int kWriteBacks = 5;
// Storage that takes longer for one of them hangs.
inline constexpr std::chrono::minutes kWriteBackLimit{5};

// WriteBack has the disks of a running guest written back, again and again until little is left:
// the hypervisor does the rest when it has stopped the guest. For one thread.
class WriteBack {
 public:
  // Both must outlive it.
  WriteBack(hypervisor::Vm& vm, const base::Clock& clock) : vm_(vm), clock_(clock) {}

  // Wait goes on for `timeout` at most, and until a stop. True: little is left, or a disk refuses,
  // which is for the hypervisor to find out. DEADLINE_EXCEEDED after kWriteBackLimit.
  [[nodiscard]] absl::StatusOr<bool> Wait(base::Duration timeout, std::stop_token stop);
  [[nodiscard]] bool under_way() const { return call_.has_value(); }

 private:
  hypervisor::Vm& vm_;
  const base::Clock& clock_;
  std::optional<base::DetachedCall> call_;
  base::Duration began_{};  // the call
  int done_ = 0;
};

}  // namespace sealift::migration
