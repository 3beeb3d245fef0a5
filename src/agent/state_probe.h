// Looks at a process that may not answer, without being held up by it.
#pragma once

#include <chrono>
#include <memory>

#include "absl/status/status.h"
#include "hypervisor/hypervisor.h"

namespace sealift::agent {

// A process that has not answered by then is silent for whoever only looks.
inline constexpr std::chrono::seconds kAnswerLimit{1};

// ProbedState is what a process has said last.
struct ProbedState {
  hypervisor::RunState state = hypervisor::RunState::kPaused;
  absl::Status trouble;  // why it is not of now
};

// StateProbe is thread-safe. One question at a time is open, on a thread that ends with it and may
// outlive the probe.
class StateProbe {
 public:
  explicit StateProbe(std::shared_ptr<hypervisor::Vm> vm);

  // Ask asks, unless an earlier question is still open.
  void Ask();
  // Wait returns the answer, or after kAnswerLimit from the question the one before it.
  [[nodiscard]] ProbedState Wait() const;

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace sealift::agent
