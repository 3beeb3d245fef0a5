#include "base/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"

namespace sealift::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

absl::Status Accept(const ProcessId& /*id*/) { return absl::OkStatus(); }

class ProcessTest : public ::testing::Test {
 protected:
  ProcessTest() : log_(open((folder_ / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {}

  // A request to run a shell script.
  [[nodiscard]] SpawnRequest Script(const std::string& script) const {
    return {"/bin/sh", {"-c", script}, *LookUpUser(TestUser()), {}, log_.get()};
  }
  // Runs a script to its end and returns its exit code and what it printed.
  std::pair<int, std::string> Run(const SpawnRequest& request) {
    const absl::StatusOr<Process> process = Process::Spawn(request, Accept);
    if (!process.ok()) return {-1, MessageOf(process.status())};
    EXPECT_TRUE(process->WaitGone(seconds(10)));
    return {process->Reap().value_or(-1), LastLines(log_.get())};
  }

  TestFolder folder_;
  UniqueFd log_;
};

TEST_F(ProcessTest, RunsAProgramAndReturnsItsExitCode) {
  EXPECT_EQ(Run(Script("echo hello; echo bad >&2; exit 7")),
            std::pair(7, std::string("hello\nbad")));
}

TEST_F(ProcessTest, GivesTheProgramACleanWorld) {
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

TEST_F(ProcessTest, DoesWithoutHugePagesWhenTold) {
  SpawnRequest request = Script("sed -n 's/THP_enabled:.//p' /proc/self/status");
  EXPECT_EQ(Run(request).second, "1");
  request.huge_pages = false;
  EXPECT_EQ(Run(request).second, "1\n0");
}

TEST_F(ProcessTest, HasTheGroupsOfItsUser) {
  // The second line asks the user database, the first the process.
  const std::string groups = Run(Script("id -G; id -G " + TestUser())).second;
  const std::size_t half = groups.find('\n');
  EXPECT_EQ(groups.substr(0, half), groups.substr(half + 1));
}

TEST_F(ProcessTest, PassesOnlyTheDescriptorsAskedFor) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);  // no close-on-exec: it must be closed all the same
  SpawnRequest request =
      Script("for fd in $(seq 0 99); do [ -e /proc/$$/fd/$fd ] && echo $fd; done; true");
  request.inherited_fds = {ends[1]};
  EXPECT_EQ(Run(request).second, "0\n1\n2\n" + std::to_string(ends[1]));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(ProcessTest, LeadsItsOwnSession) {
  const auto process = Process::Spawn(Script("exec sleep 60"), Accept);
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_EQ(getsid(process->id().pid), process->id().pid);
  EXPECT_FALSE(process->WaitGone(milliseconds(1)));
  EXPECT_EQ(process->Reap(), std::nullopt);
  EXPECT_TRUE(process->Send(SIGKILL).ok());
  EXPECT_TRUE(process->WaitGone(seconds(10)));
  EXPECT_EQ(process->Reap(), 128 + SIGKILL);
  EXPECT_TRUE(process->Send(SIGKILL).ok());  // gone is not an error
}

TEST_F(ProcessTest, ReportsAProgramThatCannotRun) {
  SpawnRequest request = Script("");
  request.binary = folder_ / "missing";
  EXPECT_EQ(Process::Spawn(request, Accept).status(),
            absl::NotFoundError("start " + request.binary +
                                ": run the program: No such file or directory"));
}

TEST_F(ProcessTest, RunsAnOpenedProgramWhateverItsPathIsByNow) {
  SpawnRequest request = Script("");
  request.binary = folder_ / "program";
  request.arguments = {"hello"};
  std::filesystem::copy_file("/bin/echo", request.binary);
  const UniqueFd program(open(request.binary.c_str(), O_PATH | O_CLOEXEC));
  request.program_fd = program.get();
  std::filesystem::copy_file("/bin/false", folder_ / "next");
  std::filesystem::rename(folder_ / "next", request.binary);
  EXPECT_EQ(Run(request), std::pair(0, std::string("hello")));
}

TEST_F(ProcessTest, RunsNothingThatIsNotRecorded) {
  ProcessId id;
  const auto process = Process::Spawn(Script("echo ran"), [&](const ProcessId& made) {
    id = made;
    return absl::ResourceExhaustedError("disk full");
  });
  EXPECT_EQ(process.status(), absl::ResourceExhaustedError("disk full"));
  EXPECT_EQ(LastLines(log_.get()), "");
  EXPECT_TRUE(absl::IsNotFound(Process::Open(id).status()));
}

TEST_F(ProcessTest, FindsAProcessAgainByItsStartTime) {
  const auto process = Process::Spawn(Script("exec sleep 60"), Accept);
  ASSERT_TRUE(process.ok());
  const auto again = Process::Open(process->id());
  ASSERT_TRUE(again.ok()) << again.status();
  ProcessId other = process->id();
  ++other.start_time;
  EXPECT_TRUE(absl::IsNotFound(Process::Open(other).status()));
  ASSERT_TRUE(again->Send(SIGTERM).ok());
  EXPECT_TRUE(process->WaitGone(seconds(10)));
  // Ended but not reaped: it must not be found, and does not stay as a zombie.
  EXPECT_TRUE(absl::IsNotFound(Process::Open(process->id()).status()));
  EXPECT_EQ(process->Reap(), std::nullopt);
}

TEST_F(ProcessTest, AProcessThatCannotBeOpenedHasNotEndedForThatReason) {
  const auto process = Process::Spawn(Script("exec sleep 60"), Accept);
  ASSERT_TRUE(process.ok()) << process.status();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(log_.get());
  close(next);
  // None is left at first, then one: for the pidfd, and not for what is read after it.
  for (const int descriptors : {next, next + 1}) {
    const rlimit few{static_cast<rlim_t>(descriptors), before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    const absl::Status status = Process::Open(process->id()).status();
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  }
  EXPECT_TRUE(Process::Open(process->id()).ok());
  EXPECT_TRUE(process->Send(SIGKILL).ok());
  EXPECT_TRUE(process->WaitGone(seconds(10)));
  EXPECT_TRUE(absl::IsNotFound(Process::Open(process->id()).status()));
  EXPECT_TRUE(absl::IsNotFound(Process::Open({0, 0}).status()));
}

TEST_F(ProcessTest, CutsALogAtALineStart) {
  ASSERT_EQ(write(log_.get(), "first\nsecond\nthird\n", 19), 19);
  EXPECT_EQ(LastLines(log_.get(), 10), "third");
  EXPECT_EQ(LastLines(folder_ / "log"), "first\nsecond\nthird");
  EXPECT_EQ(LastLines(folder_ / "none"), "");
}

TEST(SystemUser, ExplainsAMissingUser) {
  EXPECT_THAT(MessageOf(LookUpUser("sealift-no-such-user").status()),
              HasSubstr("does not exist: create it with 'useradd"));
}

}  // namespace
}  // namespace sealift::base
