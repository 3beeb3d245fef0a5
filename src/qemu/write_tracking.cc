#include "qemu/write_tracking.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <thread>
#include <utility>

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
  // On a thread of its own, with whose end also a process is let go that could not be stopped.
  absl::StatusOr<base::UniqueFd> userfaultfd = absl::UnknownError("");
  std::thread([&] { userfaultfd = TakeUserfaultfd(process); }).join();
  SEALIFT_RETURN_IF_ERROR(userfaultfd.status());
  SEALIFT_RETURN_IF_ERROR(Enable(*userfaultfd));
  for (const MemoryBlock& block : blocks) {
    SEALIFT_RETURN_IF_ERROR(Register(*userfaultfd, block));
  }
  SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd pagemap, OpenPagemap(process));
  return WriteTracking{*std::move(userfaultfd), std::move(pagemap)};
}

}  // namespace sealift::qemu
