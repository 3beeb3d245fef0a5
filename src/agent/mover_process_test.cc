#include "agent/mover_process.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/sanitizers.h"
#include "base/status.h"
#include "base/testing.h"
#include "keys/hpke.h"
#include "mover/testing.h"

namespace sealift::agent {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

// A port whose queue of connections is full: one more is neither taken nor refused.
class MuteHost {
 public:
  MuteHost() {
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address_;
    EXPECT_EQ(bind(listener_.get(), Address(), size), 0);
    EXPECT_EQ(listen(listener_.get(), 0), 0);
    EXPECT_EQ(getsockname(listener_.get(), Address(), &size), 0);
    for (base::UniqueFd& waiting : queue_) {
      waiting.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      static_cast<void>(connect(waiting.get(), Address(), size));
    }
  }

  [[nodiscard]] base::HostPort address() const { return {"127.0.0.1", ntohs(address_.sin_port)}; }

 private:
  sockaddr* Address() { return reinterpret_cast<sockaddr*>(&address_); }

  base::UniqueFd listener_;
  sockaddr_in address_{};
  std::array<base::UniqueFd, 4> queue_;
};

class MoverProcessTest : public ::testing::Test {
 protected:
  void Spawn(const Scheduling& scheduling) {
    auto process = MoverProcess::Spawn({.binary = SEALIFT_MOVER,
                                        .user = *base::LookUpUser(base::TestUser()),
                                        .crypto = {},
                                        .scheduling = scheduling,
                                        .reconnect_seconds = 1});
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
  }
  // As the source of a migration of 4 streams.
  void StartTowards(const base::HostPort& destination) {
    const auto offer = process_->WaitOffer();
    ASSERT_TRUE(offer.ok()) << offer.status();
    const keys::MigrationSpec spec = mover::testing::Spec(keys::Protection::kSealed, 4);
    const auto sealed =
        keys::HpkeSeal(offer->public_key, keys::HashSpec(spec), mover::testing::Key().bytes);
    ASSERT_TRUE(sealed.ok()) << sealed.status();
    const auto listener = base::ListenUnix(folder_ / "out.sock", SOCK_STREAM, 0600);
    ASSERT_TRUE(listener.ok()) << listener.status();
    ASSERT_TRUE(process_->StartSource(spec, *sealed, *listener, {destination}).ok());
  }

  const base::TestFolder folder_;
  std::unique_ptr<MoverProcess> process_;
};

TEST_F(MoverProcessTest, AMoverIsHeardWhileItsConnectionsAreMade) {
  const MuteHost host;
  ASSERT_NO_FATAL_FAILURE(Spawn({}));
  const auto start = steady_clock::now();
  ASSERT_NO_FATAL_FAILURE(StartTowards(host.address()));
  const absl::Status established = process_->WaitEstablished(seconds(20));
  EXPECT_THAT(base::MessageOf(established), HasSubstr("had no connection for 1 s"));
  EXPECT_LT(steady_clock::now() - start, seconds(4)) << "a connection is given 5 s";
}

// Our child; there is but one.
int MoverPid() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string status = base::ReadFile(entry.path() / "status").value_or("");
    if (status.find(fmt::format("\nPPid:\t{}\n", getpid())) != std::string::npos) {
      return std::stoi(entry.path().filename());
    }
  }
  ADD_FAILURE() << "there is no mover";
  return 0;
}

// As soon as there are `count`.
std::vector<int> ThreadsOf(int pid, std::size_t count) {
  const auto deadline = steady_clock::now() + seconds(20);
  std::vector<int> threads;
  while (threads.size() < count && steady_clock::now() < deadline) {
    threads.clear();
    std::error_code error;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
      threads.push_back(std::stoi(task.path().filename()));
    }
    std::this_thread::yield();
  }
  return threads;
}

int LastCpu(const cpu_set_t& cpus) {
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &cpus)) --last;
  return last;
}

TEST_F(MoverProcessTest, AllThreadsOfAMoverRunWhereTheyShould) {
#ifdef SEALIFT_THREAD_SANITIZER
  GTEST_SKIP() << "ThreadSanitizer has a thread of its own in the mover";
#endif
  cpu_set_t ours;
  ASSERT_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
  const int cpu = LastCpu(ours);
  ASSERT_NO_FATAL_FAILURE(Spawn({.nice = 19, .cpus = {cpu}}));
  ASSERT_NO_FATAL_FAILURE(StartTowards({"127.0.0.1", 1}));  // where nobody listens
  constexpr std::size_t kThreads = 6;  // the first one, and one for each stream from 0
  const std::vector<int> threads = ThreadsOf(MoverPid(), kThreads);
  EXPECT_EQ(threads.size(), kThreads);
  for (const int thread : threads) {
    EXPECT_EQ(getpriority(PRIO_PROCESS, static_cast<id_t>(thread)), 19);
    cpu_set_t theirs;
    ASSERT_EQ(sched_getaffinity(thread, sizeof theirs, &theirs), 0);
    EXPECT_EQ(CPU_COUNT(&theirs), 1);
    EXPECT_TRUE(CPU_ISSET(cpu, &theirs));
  }
}

TEST_F(MoverProcessTest, AMoverThatCannotRunWhereItShouldIsRefused) {
  const auto process = MoverProcess::Spawn({.binary = SEALIFT_MOVER,
                                            .user = *base::LookUpUser(base::TestUser()),
                                            .crypto = {},
                                            .scheduling = {.cpus = {CPU_SETSIZE - 1}}});
  EXPECT_THAT(base::MessageOf(process.status()), HasSubstr("mover_cpus in agent.yaml"));
}

}  // namespace
}  // namespace sealift::agent
