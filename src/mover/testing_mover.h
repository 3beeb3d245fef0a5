// A sealift-mover process with the test as its agent.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/socket.h"
#include "base/unique_fd.h"
#include "keys/hpke.h"
#include "mover/control.h"
#include "mover/testing.h"

namespace sealift::mover::testing {

// MoverProcess is made and destroyed on the main thread: the process dies with it.
class MoverProcess {
 public:
  // Starts the program and takes its offer.
  MoverProcess() {
    SocketPair control(SOCK_SEQPACKET);
    control_ = std::move(control.a);
    Spawn(control.b.get());
    control.b.reset();
    const auto offer = Receive();
    if (offer.ok() && std::holds_alternative<Offer>(*offer)) offer_ = std::get<Offer>(*offer);
    EXPECT_FALSE(offer_.public_key.empty()) << "it did not offer a key";
    reader_ = std::thread([this] { Read(); });
  }
  MoverProcess(const MoverProcess&) = delete;
  MoverProcess& operator=(const MoverProcess&) = delete;
  ~MoverProcess() {
    Kill();
    static_cast<void>(WaitExit());
    Leave();
    reader_.join();
  }

  // -- What an agent does.

  // Start hands over a migration, its key sealed to this mover, and duplicates of `fds` after the
  // control channel. `key_is_for` is the spec that the key was sealed with.
  void Start(Role role, const keys::MigrationSpec& spec, const keys::MigrationSpec& key_is_for,
             std::vector<int> fds) {
    SocketPair channel(SOCK_SEQPACKET);
    peer_ = std::move(channel.a);
    fds.insert(fds.begin(), channel.b.get());
    const auto sealed =
        keys::HpkeSeal(offer_.public_key, keys::HashSpec(key_is_for), Key().bytes).value();
    ASSERT_TRUE(Tell(mover::Start{role, spec, sealed, blocks_, reconnect_seconds_}, fds));
  }
  // GivesUpAfter says how long the next Start may be without a connection.
  void GivesUpAfter(std::uint32_t seconds) { reconnect_seconds_ = seconds; }
  // Takes says what guest memory the next Start is about.
  void Takes(std::vector<RamBlock> blocks) { blocks_ = std::move(blocks); }
  [[nodiscard]] bool Begin(const BeginCopy& begin, const std::vector<int>& fds) const {
    return Tell(begin, fds);
  }
  [[nodiscard]] bool Finish() const { return Tell(FinishCopy{}); }
  void Start(Role role, const keys::MigrationSpec& spec, std::vector<int> fds) {
    Start(role, spec, spec, std::move(fds));
  }
  // ConnectTo names the port of this machine where the connections go that the mover asks for.
  void ConnectTo(std::uint16_t port) { port_ = port; }
  // Our end of stream 0.
  base::UniqueFd& peer() { return peer_; }
  // Leave is what the mover sees of an agent that dies.
  void Leave() const { shutdown(control_.get(), SHUT_RDWR); }
  void Kill() const { syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0); }

  // -- What happens then. False: not within kPatience.

  [[nodiscard]] bool WaitEstablished() {
    return Wait([this] { return established_; });
  }
  [[nodiscard]] bool WaitEnded() {
    return Wait([this] { return ended_; });
  }
  // The reason of its failure.
  [[nodiscard]] std::string WaitFailed() {
    static_cast<void>(Wait([this] { return !failure_.empty(); }));
    return failure_;
  }
  // A direct copy has come to `phase`.
  [[nodiscard]] bool WaitCopy(CopyPhase phase) {
    return Wait([&] { return copy_.phase >= phase; });
  }
  // It has come to round `round`.
  [[nodiscard]] bool WaitRound(std::uint32_t round) {
    return Wait([&] { return copy_.round >= round; });
  }
  [[nodiscard]] CopyState copy() {
    const std::lock_guard lock(mutex_);
    return copy_;
  }
  // It has asked for connection `generation` of a stream.
  [[nodiscard]] bool WaitAsked(std::uint16_t stream, std::uint32_t generation) {
    return Wait([&] { return asked_[stream] >= generation; });
  }
  // It has told of its counters `count` times from now on: it goes round.
  [[nodiscard]] bool WaitCounters(int count) {
    std::unique_lock lock(mutex_);
    const int until = counters_seen_ + count;
    return changed_.wait_for(lock, kPatience, [&] { return counters_seen_ >= until; });
  }
  // The exit code, or 128 plus a signal, or -1 when it still runs after kPatience.
  [[nodiscard]] int WaitExit() {
    if (exit_code_ >= 0 || !Readable(pidfd_.get())) return exit_code_;
    int status = 0;
    waitpid(pid_, &status, 0);
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return exit_code_;
  }

  [[nodiscard]] bool established() {
    const std::lock_guard lock(mutex_);
    return established_;
  }
  [[nodiscard]] bool runs() const { return !Readable(pidfd_.get(), std::chrono::milliseconds(0)); }

 private:
  void Spawn(int fd) {
    const std::string argument = std::to_string(fd);
    const char* const arguments[] = {SEALIFT_MOVER, argument.c_str(), nullptr};
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(127);
      fcntl(fd, F_SETFD, 0);
      execv(arguments[0], const_cast<char* const*>(arguments));
      _exit(127);
    }
    pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    EXPECT_TRUE(pidfd_.valid());
  }

  absl::StatusOr<ControlMessage> Receive() const {
    auto message = base::ReceiveMessage(control_.get());
    if (!message.ok()) return message.status();
    return DecodeControl(message->bytes);
  }
  bool Tell(const ControlMessage& message, const std::vector<int>& fds = {}) const {
    return base::SendMessage(control_.get(), EncodeControl(message), fds).ok();
  }

  void Read() {
    for (auto message = Receive(); message.ok(); message = Receive()) {
      if (const auto* request = std::get_if<Connect>(&*message)) Answer(*request);
      const std::lock_guard lock(mutex_);
      Remember(*message);
      changed_.notify_all();
    }
  }
  void Answer(const Connect& request) const {
    const auto connection = base::ConnectTcp({"127.0.0.1", port_}, kPatience);
    if (connection.ok()) {
      Tell(Connection{request.stream, request.generation}, {connection->get()});
    } else {
      Tell(ConnectionFailed{request.stream, request.generation});
    }
  }
  void Remember(const ControlMessage& message) {
    if (const auto* request = std::get_if<Connect>(&message)) {
      EXPECT_GT(request->generation, asked_[request->stream]) << "generations only grow";
      asked_[request->stream] = request->generation;
    }
    if (const auto* failed = std::get_if<Failed>(&message)) failure_ = failed->reason;
    if (std::holds_alternative<Established>(message)) established_ = true;
    if (std::holds_alternative<Ended>(message)) ended_ = true;
    if (const auto* copy = std::get_if<CopyState>(&message)) copy_ = *copy;
    if (std::holds_alternative<Counters>(message)) ++counters_seen_;
  }
  template <typename Condition>
  bool Wait(const Condition& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, condition);
  }

  pid_t pid_ = -1;
  base::UniqueFd pidfd_;
  int exit_code_ = -1;
  base::UniqueFd control_;
  base::UniqueFd peer_;
  Offer offer_;
  std::uint32_t reconnect_seconds_ = kReconnectSeconds;
  std::vector<RamBlock> blocks_;
  std::atomic<std::uint16_t> port_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  bool established_ = false;
  bool ended_ = false;
  CopyState copy_{};
  int counters_seen_ = 0;
  std::string failure_;
  std::map<std::uint16_t, std::uint32_t> asked_;  // last generation by stream

  std::thread reader_;
};

}  // namespace sealift::mover::testing
