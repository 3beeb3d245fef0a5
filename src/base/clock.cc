#include "base/clock.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <ctime>
#include <thread>

namespace sealift::base {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

WallTime SystemClock::Now() const { return std::chrono::system_clock::now(); }

Duration SystemClock::SinceBoot() const {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

void SystemClock::Pause(Duration time) const { std::this_thread::sleep_for(time); }

void FakeClock::Advance(Duration by) const {
  now_ += std::chrono::duration_cast<WallTime::duration>(by);
  since_boot_ += by;
}

std::int64_t UnixMillis(WallTime time) {
  return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
}

WallTime FromUnixMillis(std::int64_t millis) {
  return WallTime(std::clamp(milliseconds(millis),
                             std::chrono::ceil<milliseconds>(WallTime::duration::min()),
                             std::chrono::floor<milliseconds>(WallTime::duration::max())));
}

std::string FormatUtc(WallTime time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

}  // namespace sealift::base
