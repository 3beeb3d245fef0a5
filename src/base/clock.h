// Time as the rest of the program sees it. Control code takes a Clock so that tests can set it.
#pragma once

#include <chrono>
#include <string>

namespace sealift::base {

using WallTime = std::chrono::system_clock::time_point;
using Duration = std::chrono::nanoseconds;

// Clock tells the wall time (for records and certificates) and the boot time (for deadlines and
// life spans: CLOCK_BOOTTIME, which goes on during suspend and cannot be set back). Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual WallTime Now() const = 0;
  [[nodiscard]] virtual Duration SinceBoot() const = 0;
  // Pause lets the time pass between two tries of something that has no event to wait for.
  virtual void Pause(Duration time) const = 0;
};

// SystemClock is the machine's clock.
class SystemClock final : public Clock {
 public:
  [[nodiscard]] WallTime Now() const override;
  [[nodiscard]] Duration SinceBoot() const override;
  void Pause(Duration time) const override;
};

// FakeClock stands still until a test, or a pause, advances it. Not thread-safe.
class FakeClock final : public Clock {
 public:
  [[nodiscard]] WallTime Now() const override { return now_; }
  [[nodiscard]] Duration SinceBoot() const override { return since_boot_; }
  void Pause(Duration time) const override { Advance(time); }
  void Advance(Duration by) const;

 private:
  mutable WallTime now_ = WallTime(std::chrono::seconds(1'800'000'000));
  mutable Duration since_boot_ = std::chrono::seconds(1000);
};

// UnixMillis is the wall time as milliseconds since 1970-01-01 UTC: how times are stored and sent.
[[nodiscard]] std::int64_t UnixMillis(WallTime time);
// FromUnixMillis gives the nearest time there is: a WallTime reaches from 1677 to 2262.
[[nodiscard]] WallTime FromUnixMillis(std::int64_t millis);

// FormatUtc prints "2026-01-31T12:34:56Z".
[[nodiscard]] std::string FormatUtc(WallTime time);

}  // namespace sealift::base
