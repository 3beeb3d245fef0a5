// Small files read and written whole.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::base {

// ReadFile returns the whole file; one larger than `limit` bytes is an error.
[[nodiscard]] absl::StatusOr<std::string> ReadFile(const std::string& path,
                                                   std::size_t limit = 16U << 20);

// WriteFileDurably replaces `path` with `content` such that after a crash either the old or the new
// content is there: temporary file in the same folder, fsync, rename, fsync of the folder. After
// an error the old content is there; only after DATA_LOSS it may be either.
[[nodiscard]] absl::Status WriteFileDurably(const std::string& path, std::string_view content,
                                            mode_t mode = 0600);

// IsTemporary says whether a path ends as those of the temporary files do that WriteFileDurably
// makes. One that was killed meanwhile leaves its file.
[[nodiscard]] bool IsTemporary(std::string_view path);

// PublishFile gives a finished file its name durably: fsync, rename, fsync of the folder. `to` is
// in the same folder as `from`; ALREADY_EXISTS when there is such a file.
[[nodiscard]] absl::Status PublishFile(const std::string& from, const std::string& to);

// RemoveFileDurably unlinks `path` and syncs the folder, also for a file that is missing, which is
// not an error: OK means that it stays away.
[[nodiscard]] absl::Status RemoveFileDurably(const std::string& path);

// MakeDirectories creates `path` and its parents with `mode` (what exists keeps its mode).
[[nodiscard]] absl::Status MakeDirectories(const std::string& path, mode_t mode = 0755);

}  // namespace sealift::base
