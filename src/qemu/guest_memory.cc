#include "qemu/guest_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/status.h"

namespace sealift::qemu {
namespace {

using hypervisor::HugePages;
using hypervisor::MemoryBlock;
using hypervisor::VmDefinition;

constexpr const char* kFileName = "sealift-ram";
constexpr std::string_view kMappedName = "/memfd:sealift-ram";  // in maps and as target of an fd
// Nobody, QEMU included, can make the file shorter under a process that has mapped it.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

unsigned FileFlags(HugePages huge_pages) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  if (huge_pages == HugePages::k2M) return kFlags | MFD_HUGETLB | MFD_HUGE_2MB;
  if (huge_pages == HugePages::k1G) return kFlags | MFD_HUGETLB | MFD_HUGE_1GB;
  return kFlags;
}

std::uint64_t ReadNumber(const std::string& path) {
  const std::string text = base::ReadFile(path).value_or("");
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// One line of /proc/PID/maps that shows a memory file of ours.
struct Mapping {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t offset = 0;
  std::uint64_t inode = 0;
};

std::optional<Mapping> ParseMapping(const std::string& line) {
  if (line.find(kMappedName) == std::string::npos) return std::nullopt;
  Mapping mapping;
  char dash = 0;
  std::string permissions;
  std::string device;
  std::istringstream words(line);
  words >> std::hex >> mapping.start >> dash >> mapping.end >> permissions >> mapping.offset >>
      device >> std::dec >> mapping.inode;
  if (!words || permissions.size() < 4 || permissions[3] != 's') return std::nullopt;
  return mapping;
}

// The whole mappings: the kernel splits one into lines when parts of it get other flags.
std::vector<Mapping> ParseMappings(const std::string& maps) {
  std::vector<Mapping> mappings;
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    const std::optional<Mapping> part = ParseMapping(line);
    if (!part.has_value()) continue;
    const bool goes_on = !mappings.empty() && mappings.back().end == part->start &&
                         mappings.back().inode == part->inode && part->offset != 0;
    if (goes_on) {
      mappings.back().end = part->end;
    } else {
      mappings.push_back(*part);
    }
  }
  return mappings;
}

// Opens the memory file with that inode through a descriptor of the process.
base::UniqueFd OpenMemoryFile(int pid, std::uint64_t inode) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), error)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    if (!target.starts_with(kMappedName)) continue;
    base::UniqueFd file(open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
    struct stat info {};
    if (file.valid() && fstat(file.get(), &info) == 0 && info.st_ino == inode) return file;
  }
  return {};
}

// A mapping counts only when it is that of a whole file as MakeGuestMemory() makes it: movers map
// what QEMU, which is not trusted, shows here.
absl::StatusOr<MemoryBlock> OpenBlock(int pid, const Mapping& mapping) {
  const std::uint64_t size = mapping.end - mapping.start;
  base::UniqueFd file = OpenMemoryFile(pid, mapping.inode);
  struct stat info {};
  if (!file.valid() || fstat(file.get(), &info) != 0 || mapping.offset != 0 ||
      static_cast<std::uint64_t>(info.st_size) != size ||
      (fcntl(file.get(), F_GET_SEALS) & kSeals) != kSeals) {
    return absl::InternalError(
        fmt::format("process {} maps {} in a way that sealift does not", pid, kMappedName));
  }
  return MemoryBlock{std::string(kGuestRam), size, std::move(file), mapping.start};
}

}  // namespace

absl::Status CheckHugePages(const VmDefinition& definition, const std::string& pools) {
  const std::uint64_t page = hypervisor::HugePageBytes(definition.huge_pages);
  if (page == 0) return absl::OkStatus();
  const std::string pool = fmt::format("{}/hugepages-{}kB", pools, page >> 10);
  if (access(pool.c_str(), F_OK) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("this host has no huge pages of {}: use another 'hugepages' in the definition",
                    hypervisor::FormatSize(page)));
  }
  const std::uint64_t needed = definition.memory_bytes / page;
  const std::uint64_t free = ReadNumber(pool + "/free_hugepages");
  const std::uint64_t promised = ReadNumber(pool + "/resv_hugepages");
  const std::uint64_t available = free > promised ? free - promised : 0;
  if (available >= needed) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "VM {} needs {} huge pages of {}, this host has {} free: reserve more, for example "
      "'echo {} > {}/nr_hugepages'",
      definition.name, needed, hypervisor::FormatSize(page), available,
      ReadNumber(pool + "/nr_hugepages") + needed - available, pool));
}

absl::StatusOr<base::UniqueFd> MakeGuestMemory(const VmDefinition& definition,
                                               const base::SystemUser& user) {
  base::UniqueFd file(memfd_create(kFileName, FileFlags(definition.huge_pages)));
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(definition.memory_bytes)) != 0 ||
      fchmod(file.get(), 0600) != 0 || fchown(file.get(), user.uid, user.gid) != 0 ||
      fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) {
    return base::ErrnoStatus(
        fmt::format("make a memory file of {} for VM {}",
                    hypervisor::FormatSize(definition.memory_bytes), definition.name),
        errno);
  }
  return file;
}

std::uint64_t ResidentGuestMemory(const base::Process& process) {
  constexpr std::uint64_t kBlock = 512;  // of st_blocks
  const std::string folder = fmt::format("/proc/{}", process.id().pid);
  std::optional<std::uint64_t> bytes;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/fd", error)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
    struct stat info {};
    if (!target.starts_with(kMappedName) || stat(entry.path().c_str(), &info) != 0) continue;
    bytes = bytes.value_or(0) + static_cast<std::uint64_t>(info.st_blocks) * kBlock;
  }
  if (bytes.has_value()) return *bytes;
  // Private memory is the greatest part of the process.
  std::istringstream statm(base::ReadFile(folder + "/statm").value_or(""));
  std::uint64_t size_pages = 0;
  std::uint64_t resident_pages = 0;
  statm >> size_pages >> resident_pages;
  return resident_pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

absl::StatusOr<std::vector<MemoryBlock>> FindGuestMemory(const base::Process& process) {
  const int pid = process.id().pid;
  SEALIFT_ASSIGN_OR_RETURN(const std::string maps,
                           base::ReadFile(fmt::format("/proc/{}/maps", pid)));
  std::vector<MemoryBlock> blocks;
  for (const Mapping& mapping : ParseMappings(maps)) {
    SEALIFT_ASSIGN_OR_RETURN(MemoryBlock block, OpenBlock(pid, mapping));
    blocks.push_back(std::move(block));
  }
  // Looked at last: while the process is there, its pid is its own.
  if (process.WaitGone(base::Duration::zero())) {
    return absl::NotFoundError(fmt::format("process {} has ended", pid));
  }
  if (blocks.empty()) {
    return absl::NotFoundError(fmt::format("process {} has no guest RAM in a memory file", pid));
  }
  return blocks;
}

}  // namespace sealift::qemu
