// Ctrl-C and other requests to end, delivered to a thread of ours instead of a signal handler, so
// that a gRPC call can be cancelled.
#pragma once

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <functional>
#include <mutex>
#include <thread>

#include "base/unique_fd.h"

namespace sealift::cli {

// Interrupts takes SIGINT, SIGTERM and SIGHUP, except those the caller has us ignore (nohup). A
// signal ends the process, as always, unless a Handling is alive: then the first signal is handled
// and only a second one ends the process.
class Interrupts {
 public:
  // Construct it before any thread is made: the signals are blocked in this thread and those it
  // starts.
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Handling is one verb's wish to end in its own way. One at a time.
  class Handling {
   public:
    // `handler` runs in a thread of its own, at most once.
    Handling(Interrupts& interrupts, std::function<void()> handler);
    ~Handling();
    Handling(const Handling&) = delete;
    Handling& operator=(const Handling&) = delete;

    [[nodiscard]] bool interrupted() const;
    // Sleep waits, but not longer than until the interrupt.
    void Sleep(std::chrono::milliseconds time) const;

   private:
    Interrupts& interrupts_;
  };

 private:
  void Watch();
  void Deliver(int signal);

  sigset_t signals_{};
  base::UniqueFd signal_fd_;
  base::UniqueFd end_fd_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::function<void()> handler_;  // guarded by mutex_, as is the next
  bool interrupted_ = false;

  std::thread watcher_;
};

}  // namespace sealift::cli
