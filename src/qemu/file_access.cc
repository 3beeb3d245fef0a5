#include "qemu/file_access.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>

#include "base/detached_call.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace sealift::qemu {
namespace {

constexpr std::chrono::seconds kOpenTimeout{5};

// TakeIdentity gives the calling thread alone the user's identity towards file systems, including
// the loss of root's capabilities there. The C library's setgroups() would change every thread,
// hence the bare system call.
bool TakeIdentity(const base::SystemUser& user) {
  if (user.IsSelf()) return true;
  if (syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0) return false;
  setfsgid(user.gid);
  setfsuid(user.uid);
  // The calls return what was before, never an error: ask again.
  return static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1))) == user.uid;
}

int FlagsFor(Access access) { return access == Access::kRead ? O_RDONLY : O_RDWR; }

struct Opened {
  base::UniqueFd fd;
  int error = 0;
};

// OpenAs opens on a thread of its own, because an identity once given up cannot be taken back, and
// because storage that hangs, a network file system for one, may keep it for ever.
Opened OpenAs(const base::SystemUser& user, const std::string& path, int flags) {
  const auto opened = std::make_shared<Opened>();
  const base::DetachedCall call([=] {
    if (TakeIdentity(user)) {
      opened->fd.reset(open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
      if (!opened->fd.valid()) opened->error = errno;
    } else {
      opened->error = EPERM;
    }
    return absl::OkStatus();
  });
  if (!call.Wait(kOpenTimeout)) return {.fd = {}, .error = ETIMEDOUT};
  return std::move(*opened);
}

absl::Status Explain(const base::SystemUser& user, std::string_view what, const std::string& path,
                     Access access, int error) {
  const std::string_view wanted = access == Access::kRead ? "readable" : "readable and writable";
  const std::string subject = fmt::format("{} {}", what, path);
  if (error == ENOENT || error == ENOTDIR) {
    return absl::FailedPreconditionError(fmt::format("{} does not exist on this host", subject));
  }
  if (error == ETIMEDOUT) {
    return absl::DeadlineExceededError(
        fmt::format("{} does not open: its storage hangs on this host", subject));
  }
  if (error == EACCES || error == EPERM) {
    return absl::FailedPreconditionError(
        fmt::format("{0} is not {1} by user {2}: give that user access to it and to every folder "
                    "above, for example 'chown {2} {3}'",
                    subject, wanted, user.name, path));
  }
  return absl::FailedPreconditionError(
      base::MessageOf(base::ErrnoStatus(fmt::format("{} is not {}", subject, wanted), error)));
}

absl::StatusOr<DiskDriver> DriverFor(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return base::ErrnoStatus(fmt::format("stat {}", path), errno);
  if (S_ISREG(info.st_mode)) return DiskDriver::kFile;
  if (S_ISBLK(info.st_mode)) return DiskDriver::kHostDevice;
  return absl::FailedPreconditionError(
      fmt::format("disk {} is neither a file nor a block device", path));
}

}  // namespace

absl::Status CheckAccess(const base::SystemUser& user, const std::string& what,
                         const std::string& path, Access access) {
  const Opened opened = OpenAs(user, path, FlagsFor(access));
  return opened.fd.valid() ? absl::OkStatus() : Explain(user, what, path, access, opened.error);
}

absl::StatusOr<DiskBackend> ProbeDisk(const base::SystemUser& user, const hypervisor::Disk& disk) {
  const Access access = disk.read_only ? Access::kRead : Access::kReadWrite;
  const Opened opened = OpenAs(user, disk.path, FlagsFor(access));
  if (!opened.fd.valid()) return Explain(user, "disk", disk.path, access, opened.error);
  SEALIFT_ASSIGN_OR_RETURN(const DiskDriver driver, DriverFor(opened.fd.get(), disk.path));
  const bool direct = OpenAs(user, disk.path, FlagsFor(access) | O_DIRECT).fd.valid();
  return DiskBackend{driver, direct ? HostCache::kBypassed : HostCache::kUsed};
}

absl::Status DropPageCache(const base::SystemUser& user, const hypervisor::Disk& disk) {
  const Opened opened = OpenAs(user, disk.path, O_RDONLY);
  if (!opened.fd.valid()) return Explain(user, "disk", disk.path, Access::kRead, opened.error);
  const int error = posix_fadvise(opened.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  return error == 0 ? absl::OkStatus()
                    : base::ErrnoStatus("drop the page cache of " + disk.path, error);
}

absl::Status WriteBack(const base::SystemUser& user, const hypervisor::Disk& disk) {
  const Opened opened = OpenAs(user, disk.path, O_RDONLY);
  if (!opened.fd.valid()) return Explain(user, "disk", disk.path, Access::kRead, opened.error);
  return fdatasync(opened.fd.get()) == 0 ? absl::OkStatus()
                                         : base::ErrnoStatus("write back " + disk.path, errno);
}

}  // namespace sealift::qemu
