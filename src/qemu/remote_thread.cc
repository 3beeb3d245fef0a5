#include "qemu/remote_thread.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "base/file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace sealift::qemu {
namespace {

// A thread stops within microseconds unless the kernel holds it, in storage that hangs for example.
constexpr auto kStopTimeout = std::chrono::seconds(2);
constexpr auto kShortestPause = std::chrono::microseconds(5);
constexpr auto kLongestPause = std::chrono::microseconds(1000);
constexpr int kEventShift = 8;
constexpr std::string_view kSyscall = "\x0f\x05";

absl::Status Failed(pid_t pid, std::string_view what) {
  if (errno == ESRCH) return absl::NotFoundError(fmt::format("process {} has ended", pid));
  return base::ErrnoStatus(fmt::format("{} process {}", what, pid), errno);
}

// The process that traces `pid`; 0 when none does.
int TracerOf(pid_t pid) {
  const std::string status = base::ReadFile(fmt::format("/proc/{}/status", pid)).value_or("");
  constexpr std::string_view kKey = "TracerPid:\t";
  const std::size_t at = status.find(kKey);
  int tracer = 0;
  if (at != std::string::npos) {
    std::from_chars(status.data() + at + kKey.size(), status.data() + status.size(), tracer);
  }
  return tracer;
}

absl::Status Seize(pid_t pid) {
  if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) == 0) return absl::OkStatus();
  const int error = errno;
  if (const int tracer = TracerOf(pid); tracer != 0) {
    return absl::FailedPreconditionError(
        fmt::format("process {} is traced by process {}: end that debugger first", pid, tracer));
  }
  errno = error;
  return Failed(pid, "trace");
}

// How a traced thread has stopped: the signal, and above it the event of ptrace.
absl::StatusOr<int> AwaitStop(pid_t pid) {
  const auto deadline = std::chrono::steady_clock::now() + kStopTimeout;
  for (auto pause = kShortestPause;; pause = std::min(2 * pause, kLongestPause)) {
    siginfo_t info{};
    // The end of the process is left to whoever waits for that.
    if (waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOHANG | __WALL) != 0) {
      return Failed(pid, "wait for");
    }
    if (info.si_pid == pid) return info.si_status;
    if (std::chrono::steady_clock::now() > deadline) {
      return absl::DeadlineExceededError(
          fmt::format("process {} does not stop: does it wait for storage?", pid));
    }
    std::this_thread::sleep_for(pause);
  }
}

// The bounds of the code that the kernel maps into every process.
absl::StatusOr<std::string> ReadVdso(pid_t pid, std::uint64_t& start) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string maps,
                           base::ReadFile(fmt::format("/proc/{}/maps", pid)));
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    if (!line.ends_with("[vdso]")) continue;
    std::uint64_t end = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> start >> dash >> end;
    const base::UniqueFd memory(
        open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDONLY | O_CLOEXEC));
    std::string code(end - start, '\0');
    const ssize_t got = pread(memory.get(), code.data(), code.size(), static_cast<off_t>(start));
    if (got != static_cast<ssize_t>(code.size())) return Failed(pid, "read the vDSO of");
    return code;
  }
  return absl::InternalError(fmt::format("process {} has no vDSO", pid));
}

absl::StatusOr<std::uint64_t> FindSyscall(pid_t pid) {
  std::uint64_t start = 0;
  SEALIFT_ASSIGN_OR_RETURN(const std::string code, ReadVdso(pid, start));
  const std::size_t at = code.find(kSyscall);
  if (at == std::string::npos) {
    return absl::InternalError(
        fmt::format("the vDSO of process {} has no system call instruction", pid));
  }
  return start + at;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteThread>> RemoteThread::Hold(pid_t pid) {
  SEALIFT_RETURN_IF_ERROR(Seize(pid));
  std::unique_ptr<RemoteThread> thread(new RemoteThread(pid));
  SEALIFT_RETURN_IF_ERROR(thread->Stop());
  SEALIFT_RETURN_IF_ERROR(thread->Prepare());
  return thread;
}

absl::Status RemoteThread::Stop() {
  if (ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) != 0) return Failed(pid_, "interrupt");
  for (;;) {
    SEALIFT_ASSIGN_OR_RETURN(const int status, AwaitStop(pid_));
    const int event = status >> kEventShift;
    const int signal = status & 0x7f;
    stopped_ = event == PTRACE_EVENT_STOP;
    if (stopped_ && signal == SIGTRAP) return absl::OkStatus();
    if (stopped_) {
      return absl::FailedPreconditionError(
          fmt::format("process {} is stopped by signal {}: continue it with 'kill -CONT {}'", pid_,
                      signal, pid_));
    }
    // A signal came first: let it have that.
    if (ptrace(PTRACE_CONT, pid_, nullptr, signal) != 0) return Failed(pid_, "continue");
  }
}

// From here to the destructor no signal handler runs, and none is lost.
absl::Status RemoteThread::Prepare() {
  SEALIFT_ASSIGN_OR_RETURN(instruction_, FindSyscall(pid_));
  if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers_) != 0) return Failed(pid_, "look at");
  if (ptrace(PTRACE_GETSIGMASK, pid_, sizeof signal_mask_, &signal_mask_) != 0) {
    return Failed(pid_, "read the signal mask of");
  }
  std::uint64_t all_but_trap = ~(std::uint64_t{1} << (SIGTRAP - 1));
  if (ptrace(PTRACE_SETSIGMASK, pid_, sizeof all_but_trap, &all_but_trap) != 0) {
    return Failed(pid_, "block the signals of");
  }
  prepared_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> RemoteThread::Call(std::int64_t number, std::uint64_t argument) {
  user_regs_struct registers = registers_;
  registers.rip = instruction_;
  registers.rax = static_cast<std::uint64_t>(number);
  registers.orig_rax = static_cast<std::uint64_t>(-1);  // no system call to be restarted
  registers.rdi = argument;
  if (ptrace(PTRACE_SETREGS, pid_, nullptr, &registers) != 0) return Failed(pid_, "prepare");
  stopped_ = false;
  if (ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) return Failed(pid_, "step");
  SEALIFT_ASSIGN_OR_RETURN(const int status, AwaitStop(pid_));
  stopped_ = true;
  if (ptrace(PTRACE_GETREGS, pid_, nullptr, &registers) != 0) return Failed(pid_, "look at");
  if (status != SIGTRAP || registers.rip != instruction_ + kSyscall.size()) {
    return absl::InternalError(
        fmt::format("process {} did not run a system call but stopped with {}", pid_, status));
  }
  const auto result = static_cast<std::int64_t>(registers.rax);
  if (result >= 0) return result;
  return base::ErrnoStatus(fmt::format("system call {} in process {}", number, pid_),
                           static_cast<int>(-result));
}

RemoteThread::~RemoteThread() {
  if (!stopped_) return;  // only a stopped thread can be let go
  if (prepared_) {
    (void)ptrace(PTRACE_SETREGS, pid_, nullptr, &registers_);
    (void)ptrace(PTRACE_SETSIGMASK, pid_, sizeof signal_mask_, &signal_mask_);
  }
  (void)ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
}

}  // namespace sealift::qemu
