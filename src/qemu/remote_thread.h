// System calls made by another process for us, by means of ptrace.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace sealift::qemu {

// RemoteThread holds the main thread of a process, for a fraction of a millisecond, and has it run
// system calls. The destructor puts it back to exactly where it was: also a system call that it was
// waiting in goes on. All calls come from the thread that made the object. Should that thread end
// while the object cannot let go, the kernel does.
//
// The one thing that is not undone is the death of its own process in between, of which the other
// process would die too: hence a process that does nothing else, and that nobody knows to kill.
class RemoteThread {
 public:
  // Hold stops the main thread of process `pid`. FAILED_PRECONDITION when a debugger or a signal
  // holds it already, DEADLINE_EXCEEDED when it does not stop, NOT_FOUND when it has ended.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<RemoteThread>> Hold(pid_t pid);
  ~RemoteThread();
  RemoteThread(const RemoteThread&) = delete;
  RemoteThread& operator=(const RemoteThread&) = delete;

  // Call runs a system call that does not block, and returns its result; an errno is an error.
  [[nodiscard]] absl::StatusOr<std::int64_t> Call(std::int64_t number, std::uint64_t argument);

 private:
  explicit RemoteThread(pid_t pid) : pid_(pid) {}
  absl::Status Stop();
  absl::Status Prepare();

  const pid_t pid_;
  bool stopped_ = false;
  bool prepared_ = false;
  std::uint64_t instruction_ = 0;  // address of a `syscall`
  user_regs_struct registers_{};   // as they were
  std::uint64_t signal_mask_ = 0;
};

}  // namespace sealift::qemu
