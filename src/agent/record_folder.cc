#include "agent/record_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

constexpr char kSuffix[] = ".json";

// What an earlier agent that was killed while it wrote a record has left.
bool IsLeftover(const std::filesystem::path& path) {
  return path.stem().extension() == kSuffix && base::IsTemporary(path.string());
}

}  // namespace

RecordFolder::RecordFolder(std::string folder) : folder_(std::move(folder)) {}

std::string RecordFolder::PathOf(const std::string& name) const {
  return fmt::format("{}/{}{}", folder_, name, kSuffix);
}

absl::StatusOr<std::vector<RecordFolder::Text>> RecordFolder::Load() const {
  SEALIFT_RETURN_IF_ERROR(base::MakeDirectories(folder_, 0700));
  std::vector<Text> texts;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    if (IsLeftover(entry.path())) SEALIFT_RETURN_IF_ERROR(base::RemoveFileDurably(entry.path()));
    if (entry.path().extension() != kSuffix) continue;
    SEALIFT_ASSIGN_OR_RETURN(std::string content, base::ReadFile(entry.path().string()));
    texts.push_back({entry.path().string(), std::move(content)});
  }
  if (error) return base::ErrnoStatus(fmt::format("list {}", folder_), error.value());
  return texts;
}

absl::Status RecordFolder::Put(const std::string& name, const std::string& content) const {
  return base::WriteFileDurably(PathOf(name), content);
}

absl::Status RecordFolder::Remove(const std::string& name) const {
  return base::RemoveFileDurably(PathOf(name));
}

}  // namespace sealift::agent
