#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace sealift::base {
namespace {

constexpr std::string_view kTemporarySuffix = ".XXXXXX";  // as mkostemp wants it

std::string FolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

absl::Status SyncFolder(const std::string& folder) {
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(fmt::format("open folder {}", folder), errno);
  if (fsync(fd.get()) != 0) return ErrnoStatus(fmt::format("sync folder {}", folder), errno);
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(fmt::format("write {}", path), errno);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status WriteTemporary(int fd, std::string_view content, mode_t mode,
                            const std::string& path) {
  if (fchmod(fd, mode) != 0) return ErrnoStatus(fmt::format("set mode of {}", path), errno);
  SEALIFT_RETURN_IF_ERROR(WriteAll(fd, content, path));
  if (fsync(fd) != 0) return ErrnoStatus(fmt::format("sync {}", path), errno);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::string& path, std::size_t limit) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(fmt::format("open {}", path), errno);
  std::string content;
  char buffer[65536];
  for (;;) {
    const ssize_t got = read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(fmt::format("read {}", path), errno);
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
    if (content.size() > limit) {
      return absl::ResourceExhaustedError(
          fmt::format("read {}: larger than {} bytes", path, limit));
    }
  }
}

absl::Status WriteFileDurably(const std::string& path, std::string_view content, mode_t mode) {
  std::string temporary = path + std::string(kTemporarySuffix);
  const UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(fmt::format("create {}", temporary), errno);
  absl::Status status = WriteTemporary(fd.get(), content, mode, temporary);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus(fmt::format("rename to {}", path), errno);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  const absl::Status synced = SyncFolder(FolderOf(path));
  return synced.ok() ? synced : absl::DataLossError(synced.message());
}

bool IsTemporary(std::string_view path) {
  if (path.size() < kTemporarySuffix.size()) return false;
  const std::string_view suffix = path.substr(path.size() - kTemporarySuffix.size());
  return suffix.front() == '.' &&
         std::all_of(suffix.begin() + 1, suffix.end(), absl::ascii_isalnum);
}

absl::Status PublishFile(const std::string& from, const std::string& to) {
  const UniqueFd fd(open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(fmt::format("open {}", from), errno);
  if (fsync(fd.get()) != 0) return ErrnoStatus(fmt::format("sync {}", from), errno);
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST) return absl::AlreadyExistsError(fmt::format("{} exists already", to));
    // Some network file systems have no such rename.
    if (errno != EINVAL || access(to.c_str(), F_OK) == 0 || rename(from.c_str(), to.c_str()) != 0) {
      return ErrnoStatus(fmt::format("rename {} to {}", from, to), errno);
    }
  }
  return SyncFolder(FolderOf(to));
}

absl::Status RemoveFileDurably(const std::string& path) {
  // One that is missing may have been removed by a call whose sync has failed.
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(fmt::format("remove {}", path), errno);
  }
  return SyncFolder(FolderOf(path));
}

absl::Status MakeDirectories(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return absl::OkStatus();
  if (errno != ENOENT) return ErrnoStatus(fmt::format("make folder {}", path), errno);
  SEALIFT_RETURN_IF_ERROR(MakeDirectories(FolderOf(path), mode));
  if (mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoStatus(fmt::format("make folder {}", path), errno);
}

}  // namespace sealift::base
