#include "qemu/remote_thread.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/file.h"
#include "base/process.h"
#include "base/status.h"
#include "base/testing.h"
#include "qemu/write_tracking.h"

namespace sealift::qemu {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

// A shell that says on one FIFO that it is there, and then waits for a line on the other.
class RemoteThreadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& fifo : {folder_ / "here", folder_ / "go"}) {
      ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
      chmod(fifo.c_str(), 0666);
    }
  }
  void TearDown() override {
    if (!process_.has_value()) return;
    (void)process_->Send(SIGKILL);
    (void)process_->WaitGone(seconds(10));
    process_->Reap();
  }

  void Start(const std::string& before = "") {
    base::SpawnRequest request{
        .binary = "/bin/sh",
        .arguments =
            {"-c", before +
                       " exec 3<>go; echo > here; until read line <&3; do :; done; echo \"$line\"; "
                       "exit 7"},
        .user = *base::LookUpUser(base::TestUser()),
        .inherited_fds = {},
        .log_fd = log_.get()};
    request.arguments[1].insert(0, "cd " + folder_.path() + "; ");
    const base::UniqueFd here(open((folder_ / "here").c_str(), O_RDWR | O_CLOEXEC));
    auto process = base::Process::Spawn(request, [](const auto&) { return absl::OkStatus(); });
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
    pollfd wait{.fd = here.get(), .events = POLLIN, .revents = 0};
    ASSERT_EQ(poll(&wait, 1, 10'000), 1);
  }
  // Lets the shell end; it has been undisturbed if it echoes what it reads.
  void ExpectGoesOn() {
    const base::UniqueFd go(open((folder_ / "go").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    ASSERT_EQ(write(go.get(), "hello\n", 6), 6);
    ASSERT_TRUE(process_->WaitGone(seconds(10)));
    EXPECT_EQ(process_->Reap(), 7);
    EXPECT_THAT(base::LastLines(log_.get()), HasSubstr("hello"));
  }
  [[nodiscard]] char State() const {
    const std::string stat =
        base::ReadFile("/proc/" + std::to_string(pid()) + "/stat").value_or("");
    const std::size_t bracket = stat.rfind(')');
    return bracket == std::string::npos ? '?' : stat.at(bracket + 2);
  }
  [[nodiscard]] pid_t pid() const { return process_->id().pid; }

  base::TestFolder folder_;
  base::UniqueFd log_{open((folder_ / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  std::optional<base::Process> process_;
};

TEST_F(RemoteThreadTest, RunsSystemCallsAndLeavesNoTrace) {
  Start();
  // Often, so that it is caught in all that it does, in waiting mostly.
  for (int i = 0; i < 200; ++i) {
    const auto thread = RemoteThread::Hold(pid());
    ASSERT_TRUE(thread.ok()) << thread.status();
    EXPECT_EQ((*thread)->Call(SYS_getpid, 0).value_or(-1), pid());
    EXPECT_EQ((*thread)->Call(SYS_getpgid, 0).value_or(-1), getpgid(pid()));
    EXPECT_THAT(base::MessageOf((*thread)->Call(SYS_close, 12345).status()),
                HasSubstr("Bad file descriptor"));
  }
  ExpectGoesOn();
}

TEST_F(RemoteThreadTest, LosesNoSignal) {
  Start("trap 'echo caught' USR1;");
  {
    const auto thread = RemoteThread::Hold(pid());
    ASSERT_TRUE(thread.ok()) << thread.status();
    ASSERT_EQ(kill(pid(), SIGUSR1), 0);
    EXPECT_EQ((*thread)->Call(SYS_getpid, 0).value_or(-1), pid());
  }
  ExpectGoesOn();
  EXPECT_THAT(base::LastLines(log_.get()), HasSubstr("caught"));
}

TEST_F(RemoteThreadTest, RefusesAProcessWithADebugger) {
  Start();
  {
    const auto debugger = RemoteThread::Hold(pid());
    ASSERT_TRUE(debugger.ok()) << debugger.status();
    const absl::Status status = RemoteThread::Hold(pid()).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status));
    EXPECT_THAT(base::MessageOf(status), HasSubstr("is traced by process"));
  }
  ExpectGoesOn();
}

TEST_F(RemoteThreadTest, RefusesAStoppedProcessAndLeavesItStopped) {
  Start();
  ASSERT_EQ(kill(pid(), SIGSTOP), 0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid()), &info, WSTOPPED | WNOWAIT), 0);
  const absl::Status status = RemoteThread::Hold(pid()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(base::MessageOf(status), HasSubstr("is stopped by signal 19: continue it"));
  // It wakes up for a moment when it is let go.
  const auto deadline = std::chrono::steady_clock::now() + seconds(10);
  while (State() != 'T' && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(State(), 'T');
  ASSERT_EQ(kill(pid(), SIGCONT), 0);
  EXPECT_TRUE(RemoteThread::Hold(pid()).ok());
  ExpectGoesOn();
}

TEST_F(RemoteThreadTest, AProcessOutlivesTheOneThatHasItTrackedAtAnyMoment) {
  Start();
  for (int i = 0; i < 100; ++i) {
    const pid_t agent = fork();
    if (agent == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) static_cast<void>(TrackWrites(*process_, {}));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(2000 + 37 * i));
    ASSERT_EQ(kill(agent, SIGKILL), 0);
    ASSERT_EQ(waitpid(agent, nullptr, 0), agent);
    ASSERT_FALSE(process_->WaitGone(base::Duration::zero())) << "at the " << i << "th time";
  }
  ExpectGoesOn();
}

TEST_F(RemoteThreadTest, SaysThatAProcessHasEnded) {
  Start();
  ExpectGoesOn();
  EXPECT_TRUE(absl::IsNotFound(RemoteThread::Hold(pid()).status()));
}

}  // namespace
}  // namespace sealift::qemu
