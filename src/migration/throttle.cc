#include "migration/throttle.h"

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"

namespace sealift::migration {
namespace {

constexpr int kMaxPercent = 98;
// Long enough that starting and stopping costs nothing, short enough that a guest notices no stop.
constexpr base::Duration kPeriod = std::chrono::milliseconds(40);
// However long it ran: a guest that stands still for longer loses connections.
constexpr base::Duration kLongestStop = std::chrono::milliseconds(500);

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
  // On a busy host we are woken late, and the guest has run for longer than it should: so it is
  // stopped for as long as what it did run asks for.
  auto ran = kPeriod * (100 - wanted_percent_) / 100;
  while (!released()) {
    absl::Status status = vm_.Suspend();
    const auto stop = ran * wanted_percent_ / (100 - wanted_percent_);
    changed_.wait_for(lock, std::min(stop, kLongestStop), released);
    const auto resumed = std::chrono::steady_clock::now();
    status.Update(vm_.Resume());
    if (!status.ok()) spdlog::warn("slow down the guest: {}", base::MessageOf(status));
    changed_.wait_for(lock, kPeriod * (100 - wanted_percent_) / 100, released);
    ran = std::chrono::steady_clock::now() - resumed;
  }
}

}  // namespace sealift::migration
