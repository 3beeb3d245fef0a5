#include "qemu/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <utility>

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
  static void WriteRecord(const RunFolder& run, const std::string& text) {
    ASSERT_TRUE(base::WriteFileDurably(run.path() + "/process.json", text).ok());
  }
  // A process that runs until it is ended.
  base::Process Sleep() {
    log_ = base::UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC));
    absl::StatusOr<base::Process> process =
        base::Process::Spawn({"/bin/sleep", {"60"}, user_, {}, log_.get()},
                             [](const base::ProcessId& /*id*/) { return absl::OkStatus(); });
    EXPECT_TRUE(process.ok()) << process.status();
    return *std::move(process);
  }
  static void End(const base::Process& process) {
    EXPECT_TRUE(process.Send(SIGKILL).ok());
    EXPECT_TRUE(process.WaitGone(std::chrono::seconds(10)));
  }

  const base::SystemUser user_ = *base::LookUpUser(base::TestUser());
  base::TestFolder folder_;
  base::UniqueFd log_;
};

TEST_F(RunFolderTest, FindsTheProcessOfItsRecord) {
  const RunFolder run(folder_.path(), "vm");
  EXPECT_TRUE(absl::IsNotFound(run.FindProcess().status()));
  ASSERT_TRUE(run.Create(user_).ok());
  EXPECT_TRUE(absl::IsNotFound(run.FindProcess().status()));
  const base::Process process = Sleep();
  ASSERT_TRUE(run.WriteRecord({process.id(), Definition()}).ok());
  const auto found = run.FindProcess();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->process.id(), process.id());
  EXPECT_EQ(found->definition, Definition());
  End(process);
  EXPECT_TRUE(absl::IsNotFound(run.FindProcess().status()));
}

TEST_F(RunFolderTest, ADamagedRecordLeavesOpenWhetherTheVmRuns) {
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(user_).ok());
  for (const char* text : {"", "{", "[]", "{\"pid\": 1}",
                           "{\"pid\": \"1\", \"start_time\": 1, \"definition\": \"\"}"}) {
    WriteRecord(run, text);
    const absl::Status status = run.FindProcess().status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << text << ": " << status;
    EXPECT_THAT(base::MessageOf(status), HasSubstr(run.path() + "/process.json"));
    EXPECT_THAT(base::MessageOf(status), HasSubstr("once no QEMU of that VM runs, remove it"));
  }
}

TEST_F(RunFolderTest, ARecordThatCannotBeReadLeavesOpenWhetherTheVmRuns) {
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(user_).ok());
  std::filesystem::create_directory(run.path() + "/process.json");
  const absl::Status status = run.FindProcess().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(RunFolderTest, OfARecordOfAProcessThatHasEndedNoMoreIsNeeded) {
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(user_).ok());
  const base::Process process = Sleep();
  WriteRecord(run, fmt::format(R"({{"pid": {}, "start_time": {}, "definition": "damaged"}})",
                               process.id().pid, process.id().start_time));
  EXPECT_TRUE(absl::IsFailedPrecondition(run.FindProcess().status()));
  End(process);
  EXPECT_TRUE(absl::IsNotFound(run.FindProcess().status()));
}

TEST_F(RunFolderTest, ItsRecordHasAFormAndALaterOneIsRefused) {
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(user_).ok());
  const base::Process process = Sleep();
  ASSERT_TRUE(run.WriteRecord({process.id(), Definition()}).ok());
  EXPECT_THAT(base::ReadFile(run.path() + "/process.json").value(), HasSubstr("\"form\": 1"));
  // The version before named none.
  const std::string rest = fmt::format(
      R"("pid": {}, "start_time": {}, "new": [1], "definition": "name: vm\nmemory: 1GiB")",
      process.id().pid, process.id().start_time);
  for (const char* form : {"", "\"form\": 1, "}) {
    WriteRecord(run, fmt::format("{{{}{}}}", form, rest));
    EXPECT_TRUE(run.FindProcess().ok()) << run.FindProcess().status();
  }
  WriteRecord(run, fmt::format("{{\"form\": 2, {}}}", rest));
  const absl::Status status = run.FindProcess().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(base::MessageOf(status), HasSubstr(run.path() + "/process.json"));
  EXPECT_THAT(base::MessageOf(status), HasSubstr("newer sealift"));
  End(process);
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
