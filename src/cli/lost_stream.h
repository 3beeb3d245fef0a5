// Patience with a stream that should go on for ever but broke: the controller may be restarting.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "cli/output.h"

namespace sealift::cli {

// LostStream decides whether to open a stream again. The user is told once per loss.
class LostStream {
 public:
  // It gives up after `patience` without anything received. References must outlive it.
  LostStream(std::chrono::seconds patience, const base::Clock& clock, Output& output);

  // Received: the stream works.
  void Received() {
    lost_since_.reset();
    backoff_.Reset();
  }

  // Judge takes the status a stream ended with. OK: open it again after a Pause. Otherwise the
  // error to end with: one that will not go away, or UNAVAILABLE when the patience is at its end.
  [[nodiscard]] absl::Status Judge(const absl::Status& status);
  // Pause is how long to wait before the next try.
  [[nodiscard]] std::chrono::milliseconds Pause() { return backoff_.Next(); }

 private:
  std::chrono::seconds patience_;
  const base::Clock& clock_;
  Output& output_;
  std::optional<base::Duration> lost_since_;
  base::Backoff backoff_;
};

}  // namespace sealift::cli
