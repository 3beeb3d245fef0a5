#include "controller/backup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"
#include "controller/installation.h"
#include "store/sqlite_store.h"

namespace sealift::controller {
namespace {

using absl::StatusCode;
using ::testing::AllOf;
using ::testing::HasSubstr;

AskPassphrase Answer(const std::string& passphrase) {
  return [passphrase] { return passphrase; };
}

absl::StatusOr<std::string> NobodyAsks() { return absl::InternalError("nobody should ask"); }

class BackupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(
        InitInstallation(state_, {"controller.example", 7430}, clock_, [](const AdminContext&) {
          return absl::OkStatus();
        }).ok());
    const auto store = *store::OpenSqliteStore(StateFiles(state_).database);
    store::HostRow host;
    host.name = "a";
    ASSERT_TRUE(store->CreateHost(host).ok());
  }

  absl::Status MakeBackup(CaKey key) {
    return BackUp(state_, backup_, key, key == CaKey::kEncrypted ? Answer(passphrase_) : NobodyAsks,
                  clock_);
  }
  absl::StatusOr<Restored> RestoreIt(const AskPassphrase& ask) {
    return Restore(backup_, restored_, {}, ask, clock_);
  }
  static unsigned ModeOf(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 0777;
  }
  // Nothing of an installation is there.
  void ExpectNothingRestored() {
    if (!std::filesystem::exists(restored_)) return;
    for (const auto& entry : std::filesystem::directory_iterator(restored_)) {
      ADD_FAILURE() << entry.path();
    }
  }

  base::FakeClock clock_;
  const base::TestFolder folder_;
  const std::string state_ = folder_ / "state";
  const std::string restored_ = folder_ / "restored";
  const std::string backup_ = folder_ / "backup";
  const std::string passphrase_ = "correct horse battery";
};

TEST_F(BackupTest, BecomesTheSameInstallationAgain) {
  ASSERT_TRUE(MakeBackup(CaKey::kEncrypted).ok());
  EXPECT_EQ(ModeOf(backup_), 0600U);
  const auto restored = RestoreIt(Answer(passphrase_));
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->made, base::UnixMillis(clock_.Now()));
  EXPECT_EQ(restored->hosts, std::vector<std::string>{"a"});
  EXPECT_EQ(restored->key, CaKey::kEncrypted);
  const StateFiles files(restored_);
  EXPECT_EQ(ModeOf(restored_), 0700U);
  EXPECT_EQ(ModeOf(files.ca_key), 0600U);
  EXPECT_EQ(ModeOf(files.database), 0600U);
  EXPECT_EQ(*base::ReadFile(files.ca_key), *base::ReadFile(StateFiles(state_).ca_key));

  const auto installation = LoadInstallation(restored_, clock_);
  ASSERT_TRUE(installation.ok()) << installation.status();
  EXPECT_EQ(installation->address.ToString(), "controller.example:7430");
  ASSERT_TRUE(RenewOwnCertificate(*installation, clock_).ok());
  const auto own = rpc::CheckCredentials(installation->credentials(), clock_.Now());
  EXPECT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(ModeOf(files.identity), 0600U);

  const auto store = *store::OpenSqliteStore(files.database);
  EXPECT_TRUE(store->GetHost("a")->unheard);
  EXPECT_EQ((*store->LastRestore())->backup_made, restored->made);
  EXPECT_EQ(store->ListUsers()->size(), 1U);
}

TEST_F(BackupTest, HoldsNoKeyThatCanBeReadWithoutThePassphrase) {
  ASSERT_TRUE(MakeBackup(CaKey::kEncrypted).ok());
  const std::string content = *base::ReadFile(backup_);
  EXPECT_EQ(content.find("BEGIN PRIVATE KEY"), std::string::npos);
  for (const std::string& file : {StateFiles(state_).ca_key, StateFiles(state_).identity}) {
    const std::string pem = *base::ReadFile(file);
    // A line of the key's own.
    const std::string line = pem.substr(pem.find('\n') + 1, 64);
    EXPECT_EQ(content.find(line), std::string::npos) << file;
  }
}

TEST_F(BackupTest, SaysThatThePassphraseIsWrong) {
  ASSERT_TRUE(MakeBackup(CaKey::kEncrypted).ok());
  const absl::Status status = RestoreIt(Answer("wrong horse battery")).status();
  EXPECT_EQ(status.code(), StatusCode::kPermissionDenied);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("passphrase"));
  ExpectNothingRestored();
}

TEST_F(BackupTest, WithoutTheCasKeySaysWhereItBelongs) {
  ASSERT_TRUE(MakeBackup(CaKey::kLeftOut).ok());
  EXPECT_EQ(base::ReadFile(backup_)->find("PRIVATE KEY"), std::string::npos);
  const auto restored = RestoreIt(NobodyAsks);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->key, CaKey::kLeftOut);
  const StateFiles files(restored_);

  const absl::Status missing = LoadInstallation(restored_, clock_).status();
  EXPECT_EQ(missing.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(missing), AllOf(HasSubstr(files.ca_key), HasSubstr("0600")));
  const absl::Status init = InitInstallation(restored_, {"x", 1}, clock_,
                                             [](const AdminContext&) { return absl::OkStatus(); });
  EXPECT_EQ(init.code(), StatusCode::kFailedPrecondition) << "another CA would lock out everybody";
  EXPECT_THAT(base::MessageOf(init), HasSubstr(files.ca_key));

  ASSERT_TRUE(base::WriteFileDurably(files.ca_key, *pki::GeneratePrivateKey()).ok());
  const absl::Status wrong = LoadInstallation(restored_, clock_).status();
  EXPECT_THAT(base::MessageOf(wrong), AllOf(HasSubstr(files.ca_key), HasSubstr("does not belong")));

  std::filesystem::copy_file(StateFiles(state_).ca_key, files.ca_key,
                             std::filesystem::copy_options::overwrite_existing);
  const auto installation = LoadInstallation(restored_, clock_);
  ASSERT_TRUE(installation.ok()) << installation.status();
  EXPECT_TRUE(RenewOwnCertificate(*installation, clock_).ok());
}

TEST_F(BackupTest, IsNeverRestoredOverAnInstallation) {
  ASSERT_TRUE(MakeBackup(CaKey::kLeftOut).ok());
  const StateFiles files(restored_);
  std::filesystem::create_directory(restored_);
  for (const std::string& file : {files.ca_certificate, files.ca_key, files.identity, files.address,
                                  files.database, files.database + "-wal"}) {
    ASSERT_TRUE(base::WriteFileDurably(file, "precious").ok());
    const absl::Status status = RestoreIt(NobodyAsks).status();
    EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(base::MessageOf(status), AllOf(HasSubstr(file), HasSubstr("--state-dir")));
    EXPECT_EQ(*base::ReadFile(file), "precious");
    ASSERT_TRUE(base::RemoveFileDurably(file).ok());
    ExpectNothingRestored();
  }
  EXPECT_TRUE(RestoreIt(NobodyAsks).ok()) << "an empty folder is none";
}

TEST_F(BackupTest, OfAFolderThatIsNoInstallationIsRefused) {
  EXPECT_EQ(BackUp(folder_ / "none", backup_, CaKey::kLeftOut, NobodyAsks, clock_).code(),
            StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(backup_));
}

TEST_F(BackupTest, WhatAnInterruptedRestoreLeftIsOfNoEffect) {
  ASSERT_TRUE(MakeBackup(CaKey::kLeftOut).ok());
  std::filesystem::create_directory(restored_);
  const std::string draft = StateFiles(restored_).database + ".restoring";
  ASSERT_TRUE(base::WriteFileDurably(draft, "half").ok());
  ASSERT_TRUE(base::WriteFileDurably(draft + "-wal", "of another").ok());
  ASSERT_TRUE(RestoreIt(NobodyAsks).ok());
  EXPECT_FALSE(std::filesystem::exists(draft));
  EXPECT_FALSE(std::filesystem::exists(draft + "-wal"));
}

TEST_F(BackupTest, ARestoreThatFailsCanBeRepeated) {
  ASSERT_TRUE(MakeBackup(CaKey::kLeftOut).ok());
  std::filesystem::create_directory(restored_);
  const std::string in_the_way = StateFiles(restored_).database + ".restoring";
  std::filesystem::create_directory(in_the_way);
  EXPECT_FALSE(RestoreIt(NobodyAsks).ok());
  std::filesystem::remove(in_the_way);
  ExpectNothingRestored();
  EXPECT_TRUE(RestoreIt(NobodyAsks).ok());
}

TEST_F(BackupTest, NamesOfHostsThatJoinedSinceAreChecked) {
  ASSERT_TRUE(MakeBackup(CaKey::kLeftOut).ok());
  EXPECT_EQ(Restore(backup_, restored_, {"No Host"}, NobodyAsks, clock_).status().code(),
            StatusCode::kInvalidArgument);
  ExpectNothingRestored();
  const auto restored = Restore(backup_, restored_, {"a", "c"}, NobodyAsks, clock_);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->hosts, (std::vector<std::string>{"a", "c"}));
  const auto store = *store::OpenSqliteStore(StateFiles(restored_).database);
  EXPECT_TRUE(store->GetHost("c")->unheard);
}

}  // namespace
}  // namespace sealift::controller
