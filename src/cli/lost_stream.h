// Patience with a stream that should go on for ever but broke: the controller may be restarting.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "cli/output.h"

namespace sealift::cli {

// LostStream decides whether to open a stream again. The user is told once per loss.
class LostStream {
 public:
  static constexpr std::chrono::milliseconds kPause{500};  // before each new try

  // It gives up after `patience` without anything received. References must outlive it.
  LostStream(std::chrono::seconds patience, const base::Clock& clock, Output& output);

  // Received: the stream works.
  void Received() { lost_since_.reset(); }

  // Judge takes the status a stream ended with. OK: open it again after kPause. Otherwise the error
  // to end with: one that will not go away, or UNAVAILABLE when the patience is at its end.
  [[nodiscard]] absl::Status Judge(const absl::Status& status);

 private:
  std::chrono::seconds patience_;
  const base::Clock& clock_;
  Output& output_;
  std::optional<base::Duration> lost_since_;
};

}  // namespace sealift::cli
