// Slows a guest down by short stops of its process: of 40 ms, and of up to half a second where the
// host is too busy to stop it in time.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "hypervisor/hypervisor.h"

namespace sealift::migration {

// Throttle runs a thread of its own while the guest is slowed down. An agent that dies while the
// process is stopped leaves it so; the next one resumes it when it adopts the VM.
class Throttle {
 public:
  // `vm` must outlive it. It begins without slowing anything down.
  explicit Throttle(hypervisor::Vm& vm) : vm_(vm) {}
  Throttle(const Throttle&) = delete;
  Throttle& operator=(const Throttle&) = delete;
  ~Throttle() { Release(); }

  // Raise halves the guest's speed, to a fiftieth at most.
  void Raise();
  // Release lets it run at full speed; when it returns the process is not stopped.
  void Release();
  // Share of the time that the guest is stopped, in per cent.
  [[nodiscard]] int percent() const { return percent_; }

 private:
  void Run();

  hypervisor::Vm& vm_;
  int percent_ = 0;  // written by the owner's thread
  std::mutex mutex_;
  std::condition_variable changed_;
  int wanted_percent_ = 0;  // guarded by mutex_; 0 ends the thread
  std::thread thread_;
};

}  // namespace sealift::migration
