// What tests of this module need from the machine they run on.
#pragma once

#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace sealift::qemu {

// TestUser is an unprivileged user to run QEMU as: the product's, else nobody; our own when we are
// not root.
inline std::string TestUser() {
  if (geteuid() != 0) return getpwuid(geteuid())->pw_name;
  return getpwnam("sealift-qemu") != nullptr ? "sealift-qemu" : "nobody";
}

// TestFolder is a folder that every user can pass through and that is removed with what is in it.
class TestFolder {
 public:
  TestFolder() {
    std::string pattern = "/tmp/sealift-test-XXXXXX";
    path_ = mkdtemp(pattern.data());
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

}  // namespace sealift::qemu
