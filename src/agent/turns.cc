#include "agent/turns.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

namespace sealift::agent {
namespace {

// Storage may hold up whoever has the turn for ever.
constexpr std::chrono::seconds kLimit{5};

}  // namespace

Turns::Turn::Turn(Turns& turns, std::string vm, Patience patience)
    : turns_(turns), vm_(std::move(vm)) {
  std::unique_lock lock(turns_.mutex_);
  const auto free = [this] { return !turns_.changing_.contains(vm_); };
  if (patience == Patience::kEndless) turns_.over_.wait(lock, free);
  if (!turns_.over_.wait_for(lock, kLimit, free)) return;
  ours_ = turns_.changing_.insert(vm_).second;
}

Turns::Turn::~Turn() {
  if (!ours_) return;
  const std::lock_guard lock(turns_.mutex_);
  turns_.changing_.erase(vm_);
  turns_.over_.notify_all();
}

absl::Status Turns::Turn::status() const {
  if (ours_) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "VM {} is just being started or changed, and that takes long: is its storage stuck?", vm_));
}

}  // namespace sealift::agent
