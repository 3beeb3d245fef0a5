// A process that outlives us: started or found again, signalled and waited for through a pidfd,
// which cannot mean another process even after the pid was reused.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/system_user.h"
#include "base/unique_fd.h"

namespace sealift::base {

// ProcessId names a process for as long as the machine is up.
struct ProcessId {
  int pid = 0;
  std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat, clock ticks since boot
  bool operator==(const ProcessId&) const = default;
};

// SpawnRequest: the program, its arguments without the program's name, who it runs as, and which
// descriptors it inherits under their numbers. Standard output and error go to `log_fd`, everything
// else is closed.
struct SpawnRequest {
  std::string binary;
  std::vector<std::string> arguments;
  SystemUser user;
  std::vector<int> inherited_fds;
  int log_fd = -1;
  bool huge_pages = true;  // false: no transparent huge pages for it and its children
  int program_fd = -1;  // the program, if it was opened before (O_PATH); `binary` is only its name
};

class Process {
 public:
  // Spawn starts a process in a session of its own, with no new privileges, in folder /; one that
  // runs as another user also without capabilities that an exec could give it. `record`
  // is called with its id before the program runs: when it fails, or when we die before it returns,
  // the program never runs. An error names the step that failed.
  [[nodiscard]] static absl::StatusOr<Process> Spawn(
      const SpawnRequest& request, const std::function<absl::Status(const ProcessId&)>& record);

  // Open finds a running process again. NOT_FOUND only when it has ended, also when its pid is
  // another process's now.
  [[nodiscard]] static absl::StatusOr<Process> Open(const ProcessId& id);

  [[nodiscard]] const ProcessId& id() const { return id_; }
  // pidfd is readable once the process has ended.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }

  // WaitGone says whether the process has ended within `timeout`.
  [[nodiscard]] bool WaitGone(Duration timeout) const;
  // Send sends a signal; a process that has ended is not an error.
  [[nodiscard]] absl::Status Send(int signal) const;
  // Reap collects an ended child of ours and returns its exit code, or 128 plus the number of the
  // signal that ended it. Nothing when it runs, is not our child, was reaped before, or cannot be
  // reaped yet: a debugger that holds it sees its end first.
  std::optional<int> Reap() const;  // NOLINT(modernize-use-nodiscard): may be only for its effect
  // IsToBeReaped says whether it is a child of ours that runs, or was not reaped yet.
  [[nodiscard]] bool IsToBeReaped() const;

 private:
  Process(ProcessId id, UniqueFd pidfd) : id_(id), pidfd_(std::move(pidfd)) {}

  ProcessId id_;
  UniqueFd pidfd_;
};

// LastLines returns the end of a log, at most `limit` bytes cut at a line start, for error texts.
// Empty when unreadable.
[[nodiscard]] std::string LastLines(int log_fd, std::size_t limit = 2000);
[[nodiscard]] std::string LastLines(const std::string& path, std::size_t limit = 2000);

}  // namespace sealift::base
