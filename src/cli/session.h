// What a verb runs with.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "cli/controller.h"
#include "cli/interrupts.h"
#include "cli/output.h"

namespace sealift::cli {

// Session of one command: its settings, its output, and the controller once a verb needs it.
class Session {
 public:
  // All three must outlive the session.
  Session(const Settings& settings, Output& output, Interrupts& interrupts)
      : settings_(settings), output_(output), interrupts_(interrupts) {}

  // Connect reads the context file and connects, the first time it is called.
  [[nodiscard]] absl::StatusOr<Controller*> Connect() {
    if (controller_ == nullptr) {
      SEALIFT_ASSIGN_OR_RETURN(controller_, Controller::Connect(settings_, output_, clock_));
    }
    return controller_.get();
  }

  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] Output& output() { return output_; }
  [[nodiscard]] Interrupts& interrupts() { return interrupts_; }
  [[nodiscard]] const base::Clock& clock() const { return clock_; }

 private:
  const Settings& settings_;
  Output& output_;
  Interrupts& interrupts_;
  base::SystemClock clock_;
  std::unique_ptr<Controller> controller_;
};

}  // namespace sealift::cli
