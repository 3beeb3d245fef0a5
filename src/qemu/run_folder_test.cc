#include "qemu/run_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"
#include "qemu/file_access.h"

namespace sealift::qemu {
namespace {

using ::testing::HasSubstr;

class RunFolderTest : public ::testing::Test {
 protected:
  static hypervisor::VmDefinition Definition() {
    return *hypervisor::ParseVmDefinition(
        "{name: vm, memory: 1GiB, uuid: 6fa3b2c4-0d1e-4f5a-8b9c-0123456789ab}");
  }
  base::TestFolder folder_;
};

TEST_F(RunFolderTest, ReadsBackItsRecord) {
  const RunFolder run(folder_.path(), "vm");
  EXPECT_TRUE(absl::IsNotFound(run.ReadRecord().status()));
  ASSERT_TRUE(run.Create(*base::LookUpUser(base::TestUser())).ok());
  ASSERT_TRUE(run.WriteRecord({{42, 1234567890123}, Definition()}).ok());
  const auto record = run.ReadRecord();
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->process, (base::ProcessId{42, 1234567890123}));
  EXPECT_EQ(record->definition, Definition());
}

TEST_F(RunFolderTest, RefusesADamagedRecord) {
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(*base::LookUpUser(base::TestUser())).ok());
  for (const char* text : {"", "{", "[]", "{\"pid\": 1}",
                           "{\"pid\": \"1\", \"start_time\": 1, \"definition\": \"\"}"}) {
    ASSERT_TRUE(base::WriteFileDurably(run.path() + "/process.json", text).ok());
    EXPECT_FALSE(run.ReadRecord().ok()) << text;
  }
}

TEST_F(RunFolderTest, GivesQemuNoMoreThanItNeeds) {
  const base::SystemUser user = *base::LookUpUser(base::TestUser());
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(user).ok());
  struct stat folder {};
  ASSERT_EQ(stat(run.path().c_str(), &folder), 0);
  EXPECT_EQ(folder.st_mode & 07777, 0710U);
  EXPECT_EQ(folder.st_uid, geteuid());
  EXPECT_EQ(folder.st_gid, user.gid);
  EXPECT_TRUE(CheckAccess(user, "log", run.ConsoleLog(), Access::kReadWrite).ok());
  struct stat inner {};
  ASSERT_EQ(stat((run.path() + "/in").c_str(), &inner), 0);
  EXPECT_EQ(inner.st_uid, user.uid);
}

TEST_F(RunFolderTest, StartsEmptyEachTime) {
  const base::SystemUser user = *base::LookUpUser(base::TestUser());
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(user).ok());
  ASSERT_TRUE(run.OpenLog().ok());
  ASSERT_TRUE(run.Create(user).ok());
  EXPECT_NE(access(run.Log().c_str(), F_OK), 0);
  ASSERT_TRUE(run.Remove().ok());
  EXPECT_NE(access(run.path().c_str(), F_OK), 0);
  EXPECT_TRUE(run.Remove().ok());
}

TEST_F(RunFolderTest, RefusesASocketPathThatIsTooLong) {
  EXPECT_TRUE(RunFolder("/run/sealift/vms", std::string(63, 'a')).CheckLength().ok());
  const absl::Status status = RunFolder(std::string(80, '/'), std::string(63, 'a')).CheckLength();
  EXPECT_THAT(base::MessageOf(status), HasSubstr("at most 107 are possible"));
}

TEST_F(RunFolderTest, EmptiesALogThatHasGrown) {
  const std::string log = folder_ / "log";
  ASSERT_TRUE(base::WriteFileDurably(log, "0123456789").ok());
  TrimLog(log, 10);
  EXPECT_EQ(base::ReadFile(log).value(), "0123456789");
  TrimLog(log, 9);
  EXPECT_EQ(base::ReadFile(log).value(), "");
  TrimLog(folder_ / "none", 9);
}

}  // namespace
}  // namespace sealift::qemu
