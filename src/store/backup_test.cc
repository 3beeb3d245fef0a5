#include "store/backup.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "base/testing.h"
#include "store/schema.h"
#include "store/sqlite_store.h"
#include "store/testing.h"

namespace sealift::store {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class BackupTest : public testing::Test {
 protected:
  void SetUp() override {
    store_ = *OpenSqliteStore(path_);
    ASSERT_TRUE(store_->CreateHost(Host("a")).ok());
    ASSERT_TRUE(store_->CreateVm(Vm("v", "a")).ok());
  }

  absl::Status Write(const std::string& to) {
    return WriteBackup(path_, {.made = 77, .files = {{"ca.crt", "pem"}, {"address", "x:1"}}}, to);
  }

  // The store of a backup, opened.
  std::unique_ptr<Store> Extract(const std::string& from) {
    std::filesystem::create_directory(folder_ / "restored");
    const absl::Status extracted = ExtractStore(from, folder_ / "restored/store.db");
    EXPECT_TRUE(extracted.ok()) << extracted;
    auto store = OpenSqliteStore(folder_ / "restored/store.db");
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }

  static void ExecuteRaw(const std::string& path, const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }

  const base::TestFolder folder_;
  const std::string path_ = folder_ / "store.db";
  const std::string backup_ = folder_ / "backup";
  std::unique_ptr<Store> store_;
};

TEST_F(BackupTest, HoldsTheStoreAndTheFilesWhileTheOwnerGoesOn) {
  ASSERT_TRUE(Write(backup_).ok());
  ASSERT_TRUE(store_->DeleteVm("v").ok());
  const auto backup = ReadBackup(backup_);
  ASSERT_TRUE(backup.ok()) << backup.status();
  EXPECT_EQ(backup->made, 77);
  ASSERT_EQ(backup->files.size(), 2U);
  EXPECT_EQ(backup->files[0].name, "address");
  EXPECT_EQ(backup->files[1].content, "pem");
  EXPECT_EQ(Extract(backup_)->GetVm("v")->epoch, 3U);
  struct stat info {};
  ASSERT_EQ(stat(backup_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(BackupTest, OfAStoreThatNobodyHasOpen) {
  store_.reset();
  ASSERT_TRUE(Write(backup_).ok());
  EXPECT_TRUE(Extract(backup_)->GetVm("v").ok());
}

TEST_F(BackupTest, IsOfOneMoment) {
  std::jthread writer([this](const std::stop_token& stop) {
    for (std::uint64_t epoch = 3; !stop.stop_requested(); ++epoch) {
      ASSERT_TRUE(store_->AddEvents({{0, 1, "t", "s", "a", "1"}, {0, 1, "t", "s", "a", "2"}}).ok());
      ASSERT_TRUE(store_->MoveVm("v", epoch, "a").ok());
    }
  });
  for (int i = 0; i < 20; ++i) {
    const std::string to = fmt::format("{}{}", backup_, i);
    const absl::Status written = Write(to);
    ASSERT_TRUE(written.ok()) << written;
    const auto copy = Extract(to);
    const std::size_t events = copy->ListEvents(0, 1'000'000, "")->size();
    EXPECT_EQ(events % 2, 0U);
    const std::uint64_t moves = copy->GetVm("v")->epoch - 3;
    EXPECT_TRUE(events / 2 == moves || events / 2 == moves + 1) << events << " and " << moves;
    std::filesystem::remove(folder_ / "restored/store.db");
  }
}

TEST_F(BackupTest, NothingDeletedIsInIt) {
  ASSERT_TRUE(store_->AddEvents({{0, 1, "t", "s", "a", "something-to-be-forgotten"}}).ok());
  ExecuteRaw(path_, "DELETE FROM events");
  ASSERT_TRUE(Write(backup_).ok());
  EXPECT_EQ(base::ReadFile(backup_)->find("something-to-be-forgotten"), std::string::npos);
}

TEST_F(BackupTest, TheFilesDoNotStayInTheStoreThatIsTakenOutOfIt) {
  ASSERT_TRUE(
      WriteBackup(path_, {.made = 77, .files = {{"ca.key", "the-sealed-key"}}}, backup_).ok());
  EXPECT_NE(base::ReadFile(backup_)->find("the-sealed-key"), std::string::npos);
  Extract(backup_).reset();
  EXPECT_EQ(base::ReadFile(folder_ / "restored/store.db")->find("the-sealed-key"),
            std::string::npos);
}

TEST_F(BackupTest, ReplacesNothingAndLeavesNothingBehind) {
  ASSERT_TRUE(base::WriteFileDurably(backup_, "precious").ok());
  EXPECT_EQ(Write(backup_).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(*base::ReadFile(backup_), "precious");
  EXPECT_EQ(Write(folder_ / "none/backup").code(), StatusCode::kNotFound);
  EXPECT_EQ(Write(path_).code(), StatusCode::kAlreadyExists);
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(name == "backup" || name.starts_with("store.db")) << name;
  }
}

TEST_F(BackupTest, ReadsNothingElse) {
  EXPECT_EQ(ReadBackup(folder_ / "none").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(ReadBackup(path_).status().code(), StatusCode::kInvalidArgument) << "a store itself";
  ASSERT_TRUE(base::WriteFileDurably(backup_, std::string(5000, 'x')).ok());
  const absl::Status status = ReadBackup(backup_).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("sealift-controllerd backup"));
}

TEST_F(BackupTest, NoticesDamage) {
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(AddEvent(*store_, {0, i, "t", "s", "a", std::string(900, 'x')}).ok());
  }
  ASSERT_TRUE(Write(backup_).ok());
  const std::string whole = *base::ReadFile(backup_);
  std::string torn = whole;
  torn.replace(whole.size() - 12288, 8192, std::string(8192, '\xff'));
  for (const std::string& damaged : {whole.substr(0, whole.size() - 4096), torn}) {
    ASSERT_TRUE(base::WriteFileDurably(backup_, damaged).ok());
    const absl::Status status = ReadBackup(backup_).status();
    EXPECT_EQ(status.code(), StatusCode::kInternal) << status;
    EXPECT_THAT(base::MessageOf(status), HasSubstr("damaged"));
  }
}

TEST_F(BackupTest, RefusesOneOfANewerSealift) {
  ASSERT_TRUE(Write(backup_).ok());
  ExecuteRaw(backup_, "PRAGMA user_version = 1000");
  const absl::Status status = ReadBackup(backup_).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("newer sealift"));
}

TEST_F(BackupTest, OfAnOlderSealiftIsBroughtUpToDate) {
  const std::string old = folder_ / "old.db";
  for (std::size_t i = 0; i < 3; ++i) ExecuteRaw(old, kMigrations[i]);
  ExecuteRaw(old,
             "PRAGMA user_version = 3;"
             "INSERT INTO hosts (name, address, certificate_serial, certificate_not_after, created,"
             " last_seen) VALUES ('a', 'a:7432', 'aa', 9, 5, 7);"
             "INSERT INTO vms VALUES ('v', 'uuid', 'a', 3, 'name: v', 'required', 2, 11)");
  ASSERT_TRUE(WriteBackup(old, {.made = 77, .files = {}}, backup_).ok());
  ASSERT_TRUE(ReadBackup(backup_).ok());
  EXPECT_FALSE(Extract(backup_)->GetVm("v")->unconfirmed);
}

}  // namespace
}  // namespace sealift::store
