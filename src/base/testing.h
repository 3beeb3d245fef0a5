// What tests need from the machine they run on.
#pragma once

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/check.h"

namespace sealift::base {

// TestUser is an unprivileged user to run programs as: the one of QEMU, else nobody; our own when
// we are not root.
inline std::string TestUser() {
  if (geteuid() != 0) return getpwuid(geteuid())->pw_name;
  return getpwnam("sealift-qemu") != nullptr ? "sealift-qemu" : "nobody";
}

// TestFolder is a folder that every user can pass through and that is removed with what is in it.
class TestFolder {
 public:
  TestFolder() {
    path_ = (std::filesystem::temp_directory_path() / "sealift-test-XXXXXX").string();
    SEALIFT_CHECK(mkdtemp(path_.data()) != nullptr);
    chmod(path_.c_str(), 0755);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace sealift::base
