#include "migration/throttle.h"

#include <gtest/gtest.h>

#include <chrono>
#include <semaphore>
#include <thread>

#include "hypervisor/fake_hypervisor.h"

namespace sealift::migration {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// LateVm is one on a busy host: whoever lets it run is held up for much longer than it should run.
class LateVm final : public hypervisor::FakeVm {
 public:
  LateVm() : FakeVm({}, hypervisor::RunState::kRunning, hypervisor::Pace::kByItself, 1) {}

  absl::Status Suspend() override {
    Account(ran_);
    suspended_.release();
    return absl::OkStatus();
  }
  absl::Status Resume() override {
    Account(stood_);
    std::this_thread::sleep_for(kLate);
    return absl::OkStatus();
  }
  // WaitSuspended blocks until it was stopped once more.
  [[nodiscard]] bool WaitSuspended() {
    return suspended_.try_acquire_for(std::chrono::seconds(10));
  }
  // What it did, from the first time it was stopped to the last time it was let go.
  [[nodiscard]] double StoodPercent() const { return 100.0 * stood_ / (stood_ + ran_); }

 private:
  static constexpr milliseconds kLate{20};

  void Account(double& seconds) {
    const auto now = Clock::now();
    if (since_ != Clock::time_point()) {
      seconds += std::chrono::duration<double>(now - since_).count();
    }
    since_ = now;
  }

  std::counting_semaphore<> suspended_{0};
  Clock::time_point since_;  // when it was stopped, or let go, last
  double ran_ = 0;
  double stood_ = 0;
};

TEST(Throttle, AGuestThatRanForTooLongStandsForLonger) {
  LateVm vm;
  Throttle throttle(vm);
  while (throttle.percent() < 98) throttle.Raise();
  for (int stop = 0; stop < 4; ++stop) ASSERT_TRUE(vm.WaitSuspended());
  throttle.Release();
  EXPECT_GT(vm.StoodPercent(), 90);
}

}  // namespace
}  // namespace sealift::migration
