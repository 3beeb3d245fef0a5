#include "migration/throttle.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "base/status.h"

namespace sealift::migration {
namespace {

constexpr int kMaxPercent = 98;
// Long enough that starting and stopping costs nothing, short enough that a guest notices no stop.
constexpr std::chrono::milliseconds kPeriod{40};

}  // namespace

void Throttle::Raise() {
  percent_ = std::min(percent_ + (100 - percent_) / 2, kMaxPercent);
  const std::lock_guard lock(mutex_);
  wanted_percent_ = percent_;
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
}

void Throttle::Release() {
  percent_ = 0;
  {
    const std::lock_guard lock(mutex_);
    wanted_percent_ = 0;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  thread_ = {};
}

void Throttle::Run() {
  std::unique_lock lock(mutex_);
  const auto released = [this] { return wanted_percent_ == 0; };
  while (!released()) {
    const auto stopped = kPeriod * wanted_percent_ / 100;
    absl::Status status = vm_.Suspend();
    changed_.wait_for(lock, stopped, released);
    status.Update(vm_.Resume());
    if (!status.ok()) spdlog::warn("slow down the guest: {}", base::MessageOf(status));
    changed_.wait_for(lock, kPeriod - stopped, released);
  }
}

}  // namespace sealift::migration
