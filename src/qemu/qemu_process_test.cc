#include "qemu/qemu_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>

#include "base/file.h"
#include "base/status.h"
#include "qemu/run_folder.h"
#include "qemu/test_environment.h"

namespace sealift::qemu {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

absl::Status Accept(const ProcessId& /*id*/) { return absl::OkStatus(); }

class QemuProcessTest : public ::testing::Test {
 protected:
  QemuProcessTest() : log_(open((folder_ / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {}

  // A request to run a shell script.
  [[nodiscard]] SpawnRequest Script(const std::string& script) const {
    return {"/bin/sh", {"-c", script}, *LookUpUser(TestUser()), {}, log_.get()};
  }
  // Runs a script to its end and returns its exit code and what it printed.
  std::pair<int, std::string> Run(const SpawnRequest& request) {
    const absl::StatusOr<QemuProcess> process = QemuProcess::Spawn(request, Accept);
    if (!process.ok()) return {-1, base::MessageOf(process.status())};
    EXPECT_TRUE(process->WaitGone(seconds(10)));
    return {process->Reap().value_or(-1), LastLines(log_.get())};
  }

  TestFolder folder_;
  base::UniqueFd log_;
};

TEST_F(QemuProcessTest, RunsAProgramAndReturnsItsExitCode) {
  EXPECT_EQ(Run(Script("echo hello; echo bad >&2; exit 7")),
            std::pair(7, std::string("hello\nbad")));
}

TEST_F(QemuProcessTest, GivesTheProgramACleanWorld) {
  setenv("SEALIFT_LEAK", "1", 1);
  signal(SIGPIPE, SIG_IGN);
  const std::string expected = TestUser() + " / unset 1 0000000000000000";
  EXPECT_EQ(Run(Script("echo $(id -un) $PWD ${SEALIFT_LEAK-unset} "
                       "$(sed -n 's/NoNewPrivs:.//p' /proc/self/status) "
                       "$(sed -n 's/SigIgn:.//p' /proc/self/status)"))
                .second,
            expected);
  signal(SIGPIPE, SIG_DFL);
}

TEST_F(QemuProcessTest, HasTheGroupsOfItsUser) {
  // The second line asks the user database, the first the process.
  const std::string groups = Run(Script("id -G; id -G " + TestUser())).second;
  const std::size_t half = groups.find('\n');
  EXPECT_EQ(groups.substr(0, half), groups.substr(half + 1));
}

TEST_F(QemuProcessTest, PassesOnlyTheDescriptorsAskedFor) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);  // no close-on-exec: it must be closed all the same
  SpawnRequest request =
      Script("for fd in $(seq 0 99); do [ -e /proc/$$/fd/$fd ] && echo $fd; done; true");
  request.inherited_fds = {ends[1]};
  EXPECT_EQ(Run(request).second, "0\n1\n2\n" + std::to_string(ends[1]));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(QemuProcessTest, LeadsItsOwnSession) {
  const auto process = QemuProcess::Spawn(Script("exec sleep 60"), Accept);
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(getsid(process->id().pid), process->id().pid);
  EXPECT_FALSE(process->WaitGone(milliseconds(1)));
  EXPECT_EQ(process->Reap(), std::nullopt);
  EXPECT_TRUE(process->Send(SIGKILL).ok());
  EXPECT_TRUE(process->WaitGone(seconds(10)));
  EXPECT_EQ(process->Reap(), 128 + SIGKILL);
  EXPECT_TRUE(process->Send(SIGKILL).ok());  // gone is not an error
}

TEST_F(QemuProcessTest, ReportsAProgramThatCannotRun) {
  SpawnRequest request = Script("");
  request.binary = folder_ / "missing";
  EXPECT_EQ(QemuProcess::Spawn(request, Accept).status(),
            absl::NotFoundError("start " + request.binary +
                                ": run the program: No such file or directory"));
}

TEST_F(QemuProcessTest, RunsNothingThatIsNotRecorded) {
  ProcessId id;
  const auto process = QemuProcess::Spawn(Script("echo ran"), [&](const ProcessId& made) {
    id = made;
    return absl::ResourceExhaustedError("disk full");
  });
  EXPECT_EQ(process.status(), absl::ResourceExhaustedError("disk full"));
  EXPECT_EQ(LastLines(log_.get()), "");
  EXPECT_TRUE(absl::IsNotFound(QemuProcess::Open(id).status()));
}

TEST_F(QemuProcessTest, FindsAProcessAgainByItsStartTime) {
  const auto process = QemuProcess::Spawn(Script("exec sleep 60"), Accept);
  ASSERT_TRUE(process.ok());
  const auto again = QemuProcess::Open(process->id());
  ASSERT_TRUE(again.ok()) << again.status();
  ProcessId other = process->id();
  ++other.start_time;
  EXPECT_TRUE(absl::IsNotFound(QemuProcess::Open(other).status()));
  ASSERT_TRUE(again->Send(SIGTERM).ok());
  EXPECT_TRUE(process->WaitGone(seconds(10)));
  // Ended but not reaped: it must not be found, and does not stay as a zombie.
  EXPECT_TRUE(absl::IsNotFound(QemuProcess::Open(process->id()).status()));
  EXPECT_EQ(process->Reap(), std::nullopt);
}

TEST_F(QemuProcessTest, CutsALogAtALineStart) {
  ASSERT_EQ(write(log_.get(), "first\nsecond\nthird\n", 19), 19);
  EXPECT_EQ(LastLines(log_.get(), 10), "third");
  EXPECT_EQ(LastLines(folder_ / "log"), "first\nsecond\nthird");
  EXPECT_EQ(LastLines(folder_ / "none"), "");
}

class RunFolderTest : public ::testing::Test {
 protected:
  static hypervisor::VmDefinition Definition() {
    return *hypervisor::ParseVmDefinition(
        "{name: vm, memory: 1GiB, uuid: 6fa3b2c4-0d1e-4f5a-8b9c-0123456789ab}");
  }
  TestFolder folder_;
};

TEST_F(RunFolderTest, ReadsBackItsRecord) {
  const RunFolder run(folder_.path(), "vm");
  EXPECT_TRUE(absl::IsNotFound(run.ReadRecord().status()));
  ASSERT_TRUE(run.Create(*LookUpUser(TestUser())).ok());
  ASSERT_TRUE(run.WriteRecord({{42, 1234567890123}, Definition()}).ok());
  const auto record = run.ReadRecord();
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->process, (ProcessId{42, 1234567890123}));
  EXPECT_EQ(record->definition, Definition());
}

TEST_F(RunFolderTest, RefusesADamagedRecord) {
  const RunFolder run(folder_.path(), "vm");
  ASSERT_TRUE(run.Create(*LookUpUser(TestUser())).ok());
  for (const char* text : {"", "{", "[]", "{\"pid\": 1}",
                           "{\"pid\": \"1\", \"start_time\": 1, \"definition\": \"\"}"}) {
    ASSERT_TRUE(base::WriteFileDurably(run.path() + "/process.json", text).ok());
    EXPECT_FALSE(run.ReadRecord().ok()) << text;
  }
}

TEST_F(RunFolderTest, GivesQemuNoMoreThanItNeeds) {
  const QemuUser user = *LookUpUser(TestUser());
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
  const QemuUser user = *LookUpUser(TestUser());
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

class QemuUserTest : public ::testing::Test {
 protected:
  // Makes a file with that mode, owned by us.
  std::string File(const std::string& name, mode_t mode) {
    EXPECT_TRUE(base::WriteFileDurably(folder_ / name, "x", mode).ok());
    return folder_ / name;
  }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to have a user other than our own";
  }
  TestFolder folder_;
  const QemuUser user_ = *LookUpUser(TestUser());
};

TEST_F(QemuUserTest, ExplainsAMissingUser) {
  EXPECT_THAT(base::MessageOf(LookUpUser("sealift-no-such-user").status()),
              HasSubstr("does not exist: create it with 'useradd"));
}

TEST_F(QemuUserTest, OpensFilesAsTheUserWould) {
  EXPECT_TRUE(CheckAccess(user_, "kernel", File("open", 0644), Access::kRead).ok());
  const std::string closed = File("closed", 0600);
  EXPECT_EQ(base::MessageOf(CheckAccess(user_, "kernel", closed, Access::kRead)),
            "kernel " + closed + " is not readable by user " + user_.name +
                ": give that user access to it and to every folder above, for example 'chown " +
                user_.name + " " + closed + "'");
  EXPECT_THAT(base::MessageOf(CheckAccess(user_, "kernel", folder_ / "none", Access::kRead)),
              HasSubstr("/none does not exist on this host"));
  // Our own identity is what it was.
  EXPECT_EQ(access(closed.c_str(), R_OK), 0);
}

TEST_F(QemuUserTest, WantsToWriteADiskUnlessItIsReadOnly) {
  const std::string path = File("disk", 0644);
  EXPECT_TRUE(ProbeDisk(user_, {path, {}, true}).ok());
  EXPECT_THAT(base::MessageOf(ProbeDisk(user_, {path, {}, false}).status()),
              HasSubstr("is not readable and writable by user"));
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(ProbeDisk(user_, {path, {}, false})->driver, DiskDriver::kFile);
}

TEST_F(QemuUserTest, RefusesADiskThatIsNone) {
  EXPECT_THAT(base::MessageOf(ProbeDisk(user_, {"/dev/null", {}, false}).status()),
              HasSubstr("neither a file nor a block device"));
  EXPECT_FALSE(ProbeDisk(user_, {folder_.path(), {}, false}).ok());
}

}  // namespace
}  // namespace sealift::qemu
