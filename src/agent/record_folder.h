// A folder of small records, one file each, written durably.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::agent {

// RecordFolder keeps texts under names. Not thread-safe per name; different names may be written at
// once.
class RecordFolder {
 public:
  explicit RecordFolder(std::string folder);

  // Load returns every text, with its path, for error messages. The folder is made when missing,
  // and what interrupted writes have left is removed: call it before anything is written.
  struct Text {
    std::string path;
    std::string content;
  };
  [[nodiscard]] absl::StatusOr<std::vector<Text>> Load() const;
  [[nodiscard]] absl::Status Put(const std::string& name, const std::string& content) const;
  // Remove of a missing record is harmless.
  [[nodiscard]] absl::Status Remove(const std::string& name) const;

 private:
  [[nodiscard]] std::string PathOf(const std::string& name) const;

  const std::string folder_;
};

}  // namespace sealift::agent
