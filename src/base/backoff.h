// How long to wait before asking again somebody who does not answer.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

namespace sealift::base {

// Jittered is a random half to whole of a delay, so that many callers do not knock at the same
// moment.
[[nodiscard]] inline std::chrono::milliseconds Jittered(std::chrono::milliseconds whole,
                                                        std::minstd_rand& random) {
  return std::chrono::milliseconds(std::uniform_int_distribution<std::chrono::milliseconds::rep>(
      whole.count() / 2, whole.count())(random));
}

// Backoff doubles from 100 ms to a cap of 2 s; every delay is jittered. Not thread-safe.
class Backoff {
 public:
  static constexpr std::chrono::milliseconds kFirst{100};
  static constexpr std::chrono::milliseconds kCap{2000};

  // Next is the delay to wait now.
  [[nodiscard]] std::chrono::milliseconds Next() {
    return Jittered(std::exchange(whole_, std::min(whole_ * 2, kCap)), random_);
  }
  // Reset starts over after an answer.
  void Reset() { whole_ = kFirst; }

 private:
  std::chrono::milliseconds whole_ = kFirst;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace sealift::base
