#include "agent/state_probe.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace sealift::agent {

using hypervisor::RunState;
using Clock = std::chrono::steady_clock;

struct StateProbe::Shared {
  explicit Shared(std::shared_ptr<hypervisor::Vm> process) : vm(std::move(process)) {}

  const std::shared_ptr<hypervisor::Vm> vm;
  std::mutex mutex;
  std::condition_variable answered;
  // Guarded by mutex:
  bool open = false;
  Clock::time_point asked_at;
  ProbedState last;

  void Answer() {
    const absl::StatusOr<RunState> state = vm->State();
    const std::lock_guard lock(mutex);
    if (state.ok()) last.state = *state;
    last.trouble = state.status();
    open = false;
    answered.notify_all();
  }
};

StateProbe::StateProbe(std::shared_ptr<hypervisor::Vm> vm)
    : shared_(std::make_shared<Shared>(std::move(vm))) {}

void StateProbe::Ask() {
  const std::lock_guard lock(shared_->mutex);
  if (std::exchange(shared_->open, true)) return;
  shared_->asked_at = Clock::now();
  std::thread([shared = shared_] { shared->Answer(); }).detach();
}

ProbedState StateProbe::Wait() const {
  std::unique_lock lock(shared_->mutex);
  const bool answered = shared_->answered.wait_until(lock, shared_->asked_at + kAnswerLimit,
                                                     [this] { return !shared_->open; });
  if (answered) return shared_->last;
  return {shared_->last.state, absl::DeadlineExceededError(fmt::format(
                                   "process {} of VM {} does not answer", shared_->vm->pid(),
                                   shared_->vm->definition().name))};
}

}  // namespace sealift::agent
