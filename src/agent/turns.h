// Turns make the changes of one VM follow one another, however long its storage holds one up.
#pragma once

#include <condition_variable>
#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"

namespace sealift::agent {

class Turns {
 public:
  // What must not fail waits for as long as it takes, everything else for 5 s.
  enum class Patience { kLimited, kEndless };

  // Turn is held from a successful construction to the end of its scope. Nobody takes a second one
  // meanwhile, of whatever VM.
  class Turn {
   public:
    // `turns` must outlive it.
    Turn(Turns& turns, std::string vm, Patience patience);
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn();

    // FAILED_PRECONDITION when somebody else's took too long.
    [[nodiscard]] absl::Status status() const;

   private:
    Turns& turns_;
    const std::string vm_;
    bool ours_ = false;
  };

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  std::set<std::string> changing_;  // VMs that have their turn; guarded by mutex_
};

}  // namespace sealift::agent
