#include "base/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/status.h"

namespace sealift::base {
namespace {

// What a child does before its program runs; tells the parent where it failed.
enum class Step { kSession, kDescriptors, kUser, kPrivileges, kHugePages, kFolder, kProgram };

struct Failure {
  Step step;
  int error;
};

std::string_view StepName(Step step) {
  switch (step) {
    case Step::kSession:
      return "make a session";
    case Step::kDescriptors:
      return "set up descriptors";
    case Step::kUser:
      return "change the user";
    case Step::kPrivileges:
      return "give up privileges";
    case Step::kHugePages:
      return "do without huge pages";
    case Step::kFolder:
      return "change to folder /";
    case Step::kProgram:
      return "run the program";
  }
  return "start";
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("pipe", errno);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// Everything that the child needs, made before the fork: between fork and exec only
// async-signal-safe calls are allowed, so nothing may be allocated there.
class ChildPlan {
 public:
  ChildPlan(const SpawnRequest& request, int null_fd, int go_fd, int report_fd)
      : request_(request),
        null_fd_(null_fd),
        go_fd_(go_fd),
        report_fd_(report_fd),
        kept_(request.inherited_fds) {
    texts_.push_back(request.binary);
    texts_.insert(texts_.end(), request.arguments.begin(), request.arguments.end());
    argv_ = Pointers(texts_);
    environment_ = Pointers(variables_);
    kept_.insert(kept_.end(), {go_fd, report_fd});
    if (request.program_fd >= 0) kept_.push_back(request.program_fd);
    std::ranges::sort(kept_);
  }

  [[noreturn]] void Run() const {
    ResetSignals();
    if (setsid() < 0) Fail(Step::kSession);
    SetUpDescriptors();
    ChangeUser();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Fail(Step::kPrivileges);
    if (!request_.huge_pages && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) {
      Fail(Step::kHugePages);
    }
    umask(0027);
    if (chdir("/") != 0) Fail(Step::kFolder);
    WaitForGo();
    if (request_.program_fd >= 0) {
      syscall(SYS_execveat, request_.program_fd, "", argv_.data(), environment_.data(),
              AT_EMPTY_PATH);
    } else {
      execve(argv_[0], argv_.data(), environment_.data());
    }
    Fail(Step::kProgram);
  }

 private:
  [[noreturn]] void Fail(Step step) const {
    const Failure failure{step, errno};
    // The parent sees the end of the pipe either way.
    [[maybe_unused]] const ssize_t written = write(report_fd_, &failure, sizeof failure);
    _exit(127);
  }

  static void ResetSignals() {
    for (int signal = 1; signal < NSIG; ++signal) static_cast<void>(::signal(signal, SIG_DFL));
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  // Closes at once what the program does not inherit: a pipe of a sibling that is being started
  // must not be held open here.
  void SetUpDescriptors() const {
    if (dup2(null_fd_, 0) < 0 || dup2(request_.log_fd, 1) < 0 || dup2(request_.log_fd, 2) < 0) {
      Fail(Step::kDescriptors);
    }
    unsigned next = 3;
    for (const int fd : kept_) {
      const auto number = static_cast<unsigned>(fd);
      if (number > next) CloseRange(next, number - 1);
      next = number + 1;
    }
    CloseRange(next, ~0U);
    for (const int fd : request_.inherited_fds) {
      if (fcntl(fd, F_SETFD, 0) != 0) Fail(Step::kDescriptors);
    }
  }

  void CloseRange(unsigned first, unsigned last) const {
    if (syscall(SYS_close_range, first, last, 0) != 0) Fail(Step::kDescriptors);
  }

  // The other user has no capabilities, and no exec may give it any. Without CAP_SETPCAP that is
  // left to "no new privileges".
  static void EmptyBoundingSet() {
    for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0;
         ++capability) {
      static_cast<void>(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
    }
  }

  // Bare system calls: the C library's would try to change other threads, which a forked child has
  // not.
  void ChangeUser() const {
    const SystemUser& user = request_.user;
    if (user.IsSelf()) return;
    EmptyBoundingSet();
    if (syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0 ||
        syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0 ||
        syscall(SYS_setresuid, user.uid, user.uid, user.uid) != 0) {
      Fail(Step::kUser);
    }
  }

  // The end of the pipe instead of a byte: the parent died or does not want us.
  void WaitForGo() const {
    char byte = 0;
    ssize_t got = 0;
    do {
      got = read(go_fd_, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1) _exit(0);
  }

  const SpawnRequest& request_;
  const int null_fd_;
  const int go_fd_;
  const int report_fd_;
  const std::vector<std::string> variables_ = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  std::vector<std::string> texts_;
  std::vector<char*> argv_;
  std::vector<char*> environment_;
  std::vector<int> kept_;
};

struct ProcessStat {
  char state = '?';
  std::uint64_t start_time = 0;
};

// Fields 3 and 22 of /proc/PID/stat. The program's name before them is in brackets and may contain
// anything.
absl::StatusOr<ProcessStat> ReadStat(int pid) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, ReadFile(fmt::format("/proc/{}/stat", pid)));
  constexpr int kFieldsBetween = 19;
  const std::size_t bracket = text.rfind(')');
  if (bracket == std::string::npos || bracket + 2 >= text.size()) {
    return absl::InternalError(fmt::format("/proc/{}/stat has an unknown form", pid));
  }
  ProcessStat stat{text[bracket + 2], 0};
  std::size_t at = bracket + 2;
  for (int i = 0; i < kFieldsBetween && at != std::string::npos; ++i) at = text.find(' ', at + 1);
  if (at == std::string::npos) return absl::InternalError("/proc/PID/stat is too short");
  std::from_chars(text.data() + at + 1, text.data() + text.size(), stat.start_time);
  return stat;
}

UniqueFd OpenPidfd(int pid) { return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

absl::Status NotFound(const ProcessId& id) {
  return absl::NotFoundError(fmt::format("process {} has ended", id.pid));
}

// AwaitExec returns OK once the program runs: then the report pipe closes without a word.
absl::Status AwaitExec(const std::string& binary, int report_fd) {
  Failure failure{};
  ssize_t got = 0;
  do {
    got = read(report_fd, &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got != sizeof failure) return absl::OkStatus();
  return ErrnoStatus(fmt::format("start {}: {}", binary, StepName(failure.step)), failure.error);
}

}  // namespace

absl::StatusOr<Process> Process::Spawn(
    const SpawnRequest& request, const std::function<absl::Status(const ProcessId&)>& record) {
  const UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_fd.valid()) return ErrnoStatus("open /dev/null", errno);
  SEALIFT_ASSIGN_OR_RETURN(Pipe go, MakePipe());
  SEALIFT_ASSIGN_OR_RETURN(Pipe report, MakePipe());
  const ChildPlan plan(request, null_fd.get(), go.read.get(), report.write.get());

  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus("fork", errno);
  if (pid == 0) plan.Run();
  report.write.reset();

  // The child is not reaped by anybody else, so its pid is its own.
  absl::StatusOr<ProcessStat> stat = ReadStat(pid);
  Process process({pid, stat.ok() ? stat->start_time : 0}, OpenPidfd(pid));
  absl::Status status = stat.status();
  if (status.ok()) status = record(process.id_);
  if (status.ok()) {
    [[maybe_unused]] const ssize_t written = write(go.write.get(), "g", 1);
    status = AwaitExec(request.binary, report.read.get());
  }
  if (status.ok()) return process;
  go.write.reset();
  waitpid(pid, nullptr, 0);
  return status;
}

absl::StatusOr<Process> Process::Open(const ProcessId& id) {
  UniqueFd pidfd = OpenPidfd(id.pid);
  if (!pidfd.valid()) {
    // The last two: the number is none of a process, but perhaps of a thread by now.
    const bool gone = errno == ESRCH || errno == EINVAL || errno == ENOENT;
    return gone ? NotFound(id) : ErrnoStatus(fmt::format("open process {}", id.pid), errno);
  }
  Process process(id, std::move(pidfd));
  // Read after the pidfd was opened: if the start time fits, the pidfd is of that process.
  const absl::StatusOr<ProcessStat> stat = ReadStat(id.pid);
  const bool gone = process.WaitGone(Duration::zero());
  if (!stat.ok()) return gone ? NotFound(id) : stat.status();
  if (stat->start_time != id.start_time) return NotFound(id);
  if (!gone) return process;
  process.Reap();
  return NotFound(id);
}

bool Process::WaitGone(Duration timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    const int ready = poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

absl::Status Process::Send(int signal) const {
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) == 0 || errno == ESRCH) {
    return absl::OkStatus();
  }
  return ErrnoStatus(fmt::format("send signal {} to process {}", signal, id_.pid), errno);
}

bool Process::IsToBeReaped() const {
  siginfo_t info{};
  return waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

std::optional<int> Process::Reap() const {
  siginfo_t info{};
  const int result = waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  if (result != 0 || info.si_pid == 0) return std::nullopt;
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

std::string LastLines(int log_fd, std::size_t limit) {
  const off_t size = lseek(log_fd, 0, SEEK_END);
  const off_t start = std::max<off_t>(0, size - static_cast<off_t>(limit));
  std::string text(limit, '\0');
  const ssize_t got = pread(log_fd, text.data(), text.size(), start);
  if (size < 0 || got <= 0) return "";
  text.resize(static_cast<std::size_t>(got));
  if (start > 0) text.erase(0, text.find('\n') + 1);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string LastLines(const std::string& path, std::size_t limit) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd.valid() ? LastLines(fd.get(), limit) : "";
}

}  // namespace sealift::base
