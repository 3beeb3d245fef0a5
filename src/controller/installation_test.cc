#include "controller/installation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"

namespace sealift::controller {
namespace {

using ::testing::HasSubstr;

class InstallationTest : public ::testing::Test {
 protected:
  absl::Status Init() {
    return InitInstallation(folder_ / "state", {"controller.example", 7430}, clock_,
                            [&](const AdminContext& admin) {
                              admin_ = admin;
                              return context_outcome_;
                            });
  }
  static unsigned ModeOf(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 0777;
  }

  base::FakeClock clock_;
  const base::TestFolder folder_;
  AdminContext admin_;
  absl::Status context_outcome_;
};

TEST_F(InstallationTest, MakesWhatAControllerAndItsFirstOperatorNeed) {
  ASSERT_TRUE(Init().ok());
  const auto installation = LoadInstallation(folder_ / "state", clock_);
  ASSERT_TRUE(installation.ok()) << installation.status();
  EXPECT_EQ(installation->address.ToString(), "controller.example:7430");
  EXPECT_EQ(admin_.controller, "controller.example:7430");
  EXPECT_EQ(admin_.trust_domain, installation->authority->trust_domain());
  EXPECT_EQ(admin_.ca_pem, installation->authority->certificate_pem());
  const auto admin = pki::ReadCertificate(admin_.identity_pem);
  EXPECT_EQ(admin->identity, (pki::Identity{admin_.trust_domain, pki::Role::kAdmin, "admin"}));
  const auto own =
      rpc::CheckCredentials(installation->credentials(), clock_.Now() + std::chrono::hours(1));
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->identity, (pki::Identity{admin_.trust_domain, pki::Role::kController, ""}));
}

TEST_F(InstallationTest, KeepsKeysToItself) {
  ASSERT_TRUE(Init().ok());
  const StateFiles files(folder_ / "state");
  EXPECT_EQ(ModeOf(folder_ / "state"), 0700U);
  EXPECT_EQ(ModeOf(files.ca_key), 0600U);
  EXPECT_EQ(ModeOf(files.identity), 0600U);
}

TEST_F(InstallationTest, NeverReplacesAnAuthority) {
  ASSERT_TRUE(Init().ok());
  const StateFiles files(folder_ / "state");
  const std::string before = *base::ReadFile(files.ca_key);
  const absl::Status again = Init();
  EXPECT_EQ(again.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(again), HasSubstr("--state-dir"));
  EXPECT_EQ(*base::ReadFile(files.ca_key), before);
}

TEST_F(InstallationTest, CanBeRepeatedWhenTheContextCouldNotBeWritten) {
  context_outcome_ = absl::PermissionDeniedError("no");
  EXPECT_EQ(Init(), context_outcome_);
  context_outcome_ = absl::OkStatus();
  EXPECT_TRUE(Init().ok());
}

TEST_F(InstallationTest, SaysHowToInitialise) {
  const auto installation = LoadInstallation(folder_ / "state", clock_);
  EXPECT_EQ(installation.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(installation.status()), HasSubstr("sealift-controllerd init"));
}

TEST_F(InstallationTest, RenewsItsOwnCertificateWhenDueAndNotBefore) {
  ASSERT_TRUE(Init().ok());
  const auto installation = LoadInstallation(folder_ / "state", clock_);
  const std::string first = *base::ReadFile(installation->files.identity);
  clock_.Advance(std::chrono::hours(24 * 30));
  ASSERT_TRUE(RenewOwnCertificate(*installation, clock_).ok());
  EXPECT_EQ(*base::ReadFile(installation->files.identity), first);
  clock_.Advance(std::chrono::hours(24 * 40));
  ASSERT_TRUE(RenewOwnCertificate(*installation, clock_).ok());
  EXPECT_NE(*base::ReadFile(installation->files.identity), first);
  EXPECT_TRUE(
      rpc::CheckCredentials(installation->credentials(), clock_.Now() + std::chrono::hours(24 * 80))
          .ok());
}

}  // namespace
}  // namespace sealift::controller
