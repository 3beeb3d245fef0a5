#include "qemu/write_tracking.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <string>
#include <utility>

#include "base/socket.h"
#include "base/status.h"
#include "qemu/remote_thread.h"

namespace sealift::qemu {
namespace {

using hypervisor::MemoryBlock;
using hypervisor::WriteTracking;

// linux/userfaultfd.h of Linux 6.7.
constexpr std::uint64_t kWpHugetlbfsShmem = 1U << 12;
constexpr std::uint64_t kWpUnpopulated = 1U << 13;
constexpr std::uint64_t kWpAsync = 1U << 15;

absl::StatusOr<base::UniqueFd> TakeUserfaultfd(const base::Process& process) {
  constexpr auto kFlags = static_cast<std::uint64_t>(UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK);
  SEALIFT_ASSIGN_OR_RETURN(const auto thread, RemoteThread::Hold(process.id().pid));
  SEALIFT_ASSIGN_OR_RETURN(const std::int64_t theirs, thread->Call(SYS_userfaultfd, kFlags));
  base::UniqueFd ours(static_cast<int>(syscall(SYS_pidfd_getfd, process.pidfd(), theirs, 0)));
  const int error = errno;
  SEALIFT_RETURN_IF_ERROR(thread->Call(SYS_close, static_cast<std::uint64_t>(theirs)).status());
  if (!ours.valid()) return base::ErrnoStatus("pidfd_getfd", error);
  return ours;
}

// Errors as text: the code and the message.
constexpr char kSeparator = ' ';

[[noreturn]] void Help(const base::Process& process, int answer_to) {
  // What is meant for our group, Ctrl-C for one, must not end it in the middle.
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  const absl::StatusOr<base::UniqueFd> taken = TakeUserfaultfd(process);
  const absl::Status& status = taken.status();
  static_cast<void>(base::SendMessage(
      answer_to, fmt::format("{}{}{}", status.raw_code(), kSeparator, base::MessageOf(status)),
      taken.ok() ? std::vector<int>{taken->get()} : std::vector<int>{}));
  _exit(0);
}

// Has a process of its own hold the other one: should we be killed meanwhile, it lets go all the
// same. With its end also a process is let go that could not be stopped.
absl::StatusOr<base::UniqueFd> TakeByHelper(const base::Process& process) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus("make a socket pair", errno);
  }
  const base::UniqueFd ours(ends[0]);
  base::UniqueFd theirs(ends[1]);
  const pid_t helper = fork();
  if (helper == 0) Help(process, theirs.get());
  if (helper < 0) return base::ErrnoStatus("fork", errno);
  theirs.reset();
  absl::StatusOr<base::Message> answer = base::ReceiveMessage(ours.get());
  while (waitpid(helper, nullptr, 0) < 0 && errno == EINTR) continue;
  SEALIFT_RETURN_IF_ERROR(base::Annotate(answer.status(), "helper that tracks writes"));
  if (answer->fds.size() == 1) return std::move(answer->fds[0]);
  int code = 0;
  const std::string& text = answer->bytes;
  std::from_chars(text.data(), text.data() + text.size(), code);
  return absl::Status(static_cast<absl::StatusCode>(code), text.substr(text.find(kSeparator) + 1));
}

absl::Status Enable(const base::UniqueFd& userfaultfd) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | kWpHugetlbfsShmem | kWpUnpopulated | kWpAsync;
  if (ioctl(userfaultfd.get(), UFFDIO_API, &api) != 0) {
    return base::ErrnoStatus("userfaultfd with async write-protection", errno);
  }
  return absl::OkStatus();
}

absl::Status Register(const base::UniqueFd& userfaultfd, const MemoryBlock& block) {
  uffdio_register request{};
  request.range.start = block.address;
  request.range.len = block.size;
  request.mode = UFFDIO_REGISTER_MODE_WP;
  if (ioctl(userfaultfd.get(), UFFDIO_REGISTER, &request) != 0) {
    return base::ErrnoStatus(fmt::format("register {} for write-protection", block.id), errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> OpenPagemap(const base::Process& process) {
  const std::string path = fmt::format("/proc/{}/pagemap", process.id().pid);
  base::UniqueFd pagemap(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return base::ErrnoStatus("open " + path, errno);
  if (process.WaitGone(base::Duration::zero())) {
    return absl::NotFoundError(fmt::format("process {} has ended", process.id().pid));
  }
  return pagemap;
}

}  // namespace

absl::StatusOr<WriteTracking> TrackWrites(const base::Process& process,
                                          const std::vector<MemoryBlock>& blocks) {
  SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd userfaultfd, TakeByHelper(process));
  SEALIFT_RETURN_IF_ERROR(Enable(userfaultfd));
  for (const MemoryBlock& block : blocks) {
    SEALIFT_RETURN_IF_ERROR(Register(userfaultfd, block));
  }
  SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd pagemap, OpenPagemap(process));
  return WriteTracking{std::move(userfaultfd), std::move(pagemap)};
}

}  // namespace sealift::qemu
