#include "qemu/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/record_form.h"
#include "base/status.h"

namespace sealift::qemu {
namespace {

using nlohmann::json;

constexpr mode_t kRootFolder = 0710;
constexpr mode_t kQemuFolder = 0700;
constexpr mode_t kLogFile = 0640;

absl::Status MakeFolder(const std::string& path, mode_t mode, uid_t owner, gid_t group) {
  if (mkdir(path.c_str(), 0700) != 0) return base::ErrnoStatus("make folder " + path, errno);
  if (chown(path.c_str(), owner, group) != 0) return base::ErrnoStatus("chown " + path, errno);
  if (chmod(path.c_str(), mode) != 0) return base::ErrnoStatus("chmod " + path, errno);
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> MakeFile(const std::string& path, mode_t mode) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC;
  base::UniqueFd fd(open(path.c_str(), kFlags, mode));
  if (!fd.valid()) return base::ErrnoStatus("create " + path, errno);
  return fd;
}

absl::StatusOr<RunningProcess> FindRecorded(const std::string& text) {
  try {
    const json value = json::parse(text);
    SEALIFT_RETURN_IF_ERROR(
        base::CheckRecordForm(value.value(base::kRecordFormKey, base::kFirstRecordForm)));
    const base::ProcessId id{value.at("pid").get<int>(),
                             value.at("start_time").get<std::uint64_t>()};
    // First: where it has ended nobody needs the rest.
    SEALIFT_ASSIGN_OR_RETURN(base::Process process, base::Process::Open(id));
    SEALIFT_ASSIGN_OR_RETURN(
        hypervisor::VmDefinition definition,
        hypervisor::ParseVmDefinition(value.at("definition").get<std::string>()));
    return RunningProcess{std::move(process), std::move(definition)};
  } catch (const json::exception& error) {
    return absl::DataLossError(error.what());
  }
}

}  // namespace

absl::Status RunFolder::CheckLength() const {
  constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;
  for (const std::string& socket : {Qmp(), Console(), Outgoing(), Incoming()}) {
    if (socket.size() > kMaxSocketPath) {
      return absl::InvalidArgumentError(fmt::format(
          "the socket path {} has {} bytes, at most {} are possible: choose a shorter runtime "
          "folder or VM name",
          socket, socket.size(), kMaxSocketPath));
    }
  }
  return absl::OkStatus();
}

absl::Status RunFolder::Create(const base::SystemUser& user) const {
  SEALIFT_RETURN_IF_ERROR(CheckLength());
  SEALIFT_RETURN_IF_ERROR(Remove());
  SEALIFT_RETURN_IF_ERROR(MakeFolder(path_, kRootFolder, geteuid(), user.gid));
  SEALIFT_RETURN_IF_ERROR(MakeFolder(path_ + "/in", kQemuFolder, user.uid, user.gid));
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd log, MakeFile(ConsoleLog(), kLogFile));
  if (fchown(log.get(), user.uid, user.gid) != 0) {
    return base::ErrnoStatus("chown " + ConsoleLog(), errno);
  }
  return absl::OkStatus();
}

absl::Status RunFolder::Remove() const {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  return error ? base::ErrnoStatus("remove " + path_, error.value()) : absl::OkStatus();
}

absl::Status RunFolder::WriteRecord(const ProcessRecord& record) const {
  const json value = {{base::kRecordFormKey, base::kRecordForm},
                      {"pid", record.process.pid},
                      {"start_time", record.process.start_time},
                      {"definition", hypervisor::FormatVmDefinition(record.definition)}};
  return base::WriteFileDurably(Record(), value.dump(2) + "\n");
}

absl::StatusOr<RunningProcess> RunFolder::FindProcess() const {
  const absl::StatusOr<std::string> text = base::ReadFile(Record());
  if (absl::IsNotFound(text.status())) return text.status();
  absl::StatusOr<RunningProcess> found =
      text.ok() ? FindRecorded(*text) : absl::StatusOr<RunningProcess>(text.status());
  if (found.ok() || absl::IsNotFound(found.status())) return found;
  return absl::FailedPreconditionError(
      fmt::format("{} cannot be used: {}. It says whether the VM runs: make it readable or, once "
                  "no QEMU of that VM runs, remove it",
                  Record(), base::MessageOf(found.status())));
}

absl::StatusOr<base::UniqueFd> RunFolder::OpenLog() const { return MakeFile(Log(), kLogFile); }

void TrimLog(const std::string& path, std::size_t limit) {
  const base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (!fd.valid() || fstat(fd.get(), &info) != 0) return;
  if (static_cast<std::size_t>(info.st_size) <= limit) return;
  // Failure leaves the log as it is, and the next look tries again.
  [[maybe_unused]] const int result = ftruncate(fd.get(), 0);
}

}  // namespace sealift::qemu
