// What a confined process can and cannot do, each shown in a child of its own.
#include "mover/confinement.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "base/socket.h"
#include "keys/hpke.h"
#include "keys/random.h"
#include "keys/self_test.h"
#include "mover/testing.h"
#include "record/aead.h"

namespace sealift::mover {
namespace {

using testing::Readable;
using testing::SocketPair;

constexpr int kNotConfined = 120;
constexpr int kWrongResult = 121;

// Outcome of a child: how it ended.
struct Outcome {
  int exit_code = -1;
  int signal = 0;
};

// Confines a child, runs `what` there and exits with what it returns.
Outcome RunConfined(const std::function<int()>& what) {
  const pid_t child = fork();
  if (child == 0) {
    // As mover_main does: what is loaded on first use is loaded before.
    if (!keys::SelfTest().ok() || !Confine().ok()) _exit(kNotConfined);
    _exit(what());
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return {-1, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

// The errno of a call made when confined; 0 when it succeeds, kWrongResult if it ends the child.
int ErrorOf(const std::function<long()>& call) {
  const Outcome outcome = RunConfined([&] { return call() < 0 ? errno : 0; });
  return outcome.signal == 0 ? outcome.exit_code : kWrongResult;
}

void ExpectRefused(const char* name, const std::function<long()>& call) {
  EXPECT_EQ(ErrorOf(call), EPERM) << name;
}

void ExpectDeadly(const char* name, const std::function<long()>& call) {
  const Outcome outcome = RunConfined([&] { return call() < 0 ? errno : 0; });
  EXPECT_EQ(outcome.signal, SIGSYS) << name << " ended with exit code " << outcome.exit_code;
}

void ExpectAllowed(const char* name, const std::function<bool()>& what) {
  const Outcome outcome = RunConfined([&] { return what() ? 0 : kWrongResult; });
  EXPECT_EQ(outcome.signal, 0) << name;
  EXPECT_EQ(outcome.exit_code, 0) << name;
}

sockaddr_in Loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// ---- Files

TEST(Confinement, RefusesFiles) {
  ExpectRefused("open", [] { return syscall(SYS_open, "/etc/passwd", O_RDONLY); });
  ExpectRefused("openat", [] { return openat(AT_FDCWD, "/etc/passwd", O_RDONLY); });
  ExpectRefused("openat2",
                [] { return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", nullptr, 0); });
  ExpectRefused("creat", [] { return syscall(SYS_creat, "/tmp/sealift-confined", 0600); });
  ExpectRefused("unlink", [] { return unlink("/tmp/sealift-confined"); });
  ExpectRefused("readlink", [] {
    char target[8];
    return readlink("/proc/self/exe", target, sizeof target);
  });
  ExpectRefused("stat", [] { return access("/etc/passwd", R_OK); });
  ExpectRefused("chdir", [] { return chdir("/"); });
  ExpectRefused("memfd_create", [] { return memfd_create("confined", 0); });
  ExpectDeadly("open_by_handle_at", [] { return syscall(SYS_open_by_handle_at, -1, nullptr, 0); });
}

// ---- Sockets that the agent did not hand over

TEST(Confinement, RefusesNewSockets) {
  ExpectRefused("socket", [] { return socket(AF_INET, SOCK_STREAM, 0); });
  ExpectRefused("unix socket", [] { return socket(AF_UNIX, SOCK_STREAM, 0); });
  ExpectRefused("socketpair", [] {
    int ends[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  });
}

TEST(Confinement, RefusesToConnectOrBindASocketItHas) {
  const auto [listener, port] = base::ListenTcp("127.0.0.1", 0, 0).value();
  const sockaddr_in address = Loopback(port);
  const sockaddr_in any = Loopback(0);
  const base::UniqueFd spare(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ExpectRefused("connect", [&, fd = spare.get()] {
    return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  });
  ExpectRefused("bind", [&, fd = spare.get()] {
    return bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any);
  });
  ExpectRefused("listen", [fd = spare.get()] { return listen(fd, 1); });
}

// ---- Processes

TEST(Confinement, RefusesProcesses) {
  ExpectRefused("fork", [] { return fork(); });
  ExpectRefused("the system call fork", [] { return syscall(SYS_fork); });
  ExpectRefused("the system call vfork", [] { return syscall(SYS_vfork); });
  ExpectRefused("kill", [] { return kill(getppid(), 0); });
  ExpectRefused("pidfd_open", [] { return syscall(SYS_pidfd_open, getppid(), 0); });
  ExpectRefused("setuid", [] { return syscall(SYS_setuid, 0); });
  ExpectRefused("becoming dumpable", [] { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); });
  // A lie that makes the C library use clone, whose flags can be looked at.
  EXPECT_EQ(ErrorOf([] { return syscall(SYS_clone3, nullptr, 0); }), ENOSYS);
}

TEST(Confinement, EndsWhoReachesForAnotherProgramOrProcess) {
  char path[] = "/bin/true";
  char* const arguments[] = {path, nullptr};
  ExpectDeadly("execve", [&] { return execve(path, arguments, nullptr); });
  ExpectDeadly("execveat",
               [&] { return syscall(SYS_execveat, AT_FDCWD, path, arguments, nullptr, 0); });
  ExpectDeadly("ptrace", [] { return ptrace(PTRACE_ATTACH, getppid(), nullptr, nullptr); });
  ExpectDeadly("process_vm_readv",
               [] { return process_vm_readv(getppid(), nullptr, 0, nullptr, 0, 0); });
  ExpectDeadly("process_vm_writev",
               [] { return process_vm_writev(getppid(), nullptr, 0, nullptr, 0, 0); });
  ExpectDeadly("bpf", [] { return syscall(SYS_bpf, 0, nullptr, 0); });
}

TEST(Confinement, RefusesExecutableMemory) {
  const auto map = [](int protection) {
    return mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  };
  ExpectRefused("mmap",
                [&] { return map(PROT_READ | PROT_WRITE | PROT_EXEC) == MAP_FAILED ? -1 : 0; });
  ExpectRefused("mprotect",
                [&] { return mprotect(map(PROT_READ | PROT_WRITE), 4096, PROT_READ | PROT_EXEC); });
}

// ---- What a mover needs

TEST(Confinement, AllowsThreadsAndTheirEnd) {
  ExpectAllowed("threads", [] {
    int sum = 0;
    for (int i = 0; i < 3; ++i) std::thread([&] { ++sum; }).join();
    return sum == 3;
  });
}

TEST(Confinement, AllowsKeysAndRecords) {
  ExpectAllowed("keys", [] {
    const auto receiver = keys::HpkeReceiver::Generate();
    if (!receiver.ok()) return false;
    const auto sealed = keys::HpkeSeal((*receiver)->PublicKey(), base::AsBytes("info"),
                                       keys::testing::Secret(base::AsBytes("secret")));
    return sealed.ok() && (*receiver)->Open(*sealed, base::AsBytes("info")).ok();
  });
  for (const auto backend : {record::AeadBackend::kIpsecMb, record::AeadBackend::kOpenssl}) {
    if (!record::SelfTest(backend).ok()) continue;  // not on this CPU
    ExpectAllowed("records", [=] { return record::SelfTest(backend).ok(); });
  }
}

TEST(Confinement, AllowsTheSocketsItWasGiven) {
  const auto [listener, port] = base::ListenTcp("127.0.0.1", 0, 0).value();
  const base::UniqueFd client = base::ConnectTcp({"127.0.0.1", port}, testing::kPatience).value();
  SocketPair agent(SOCK_SEQPACKET);
  ExpectAllowed("sockets", [&, fd = listener.get()] {
    if (!Readable(fd)) return false;
    const base::UniqueFd connection(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    const int on = 1;
    setsockopt(connection.get(), IPPROTO_TCP, 1, &on, sizeof on);
    fcntl(connection.get(), F_SETFL, fcntl(connection.get(), F_GETFL) & ~O_NONBLOCK);
    if (!testing::SendAll(client.get(), "hello") ||
        testing::ReceiveUpTo(connection.get(), 5) != "hello") {
      return false;
    }
    const auto sent = base::SendMessage(agent.a.get(), "message", {connection.get()});
    const auto received = base::ReceiveMessage(agent.b.get());
    return sent.ok() && received.ok() && received->fds.size() == 1 &&
           shutdown(connection.get(), SHUT_RDWR) == 0;
  });
}

TEST(Confinement, AllowsEventsTheLogAndRandomNumbers) {
  ExpectAllowed("the rest", [] {
    const base::UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    eventfd_t value = 0;
    std::array<std::byte, 16> random{};
    return eventfd_write(event.get(), 7) == 0 && eventfd_read(event.get(), &value) == 0 &&
           value == 7 && write(STDERR_FILENO, "", 0) == 0 && keys::SystemRandom().Fill(random).ok();
  });
}

TEST(Confinement, AFailedCheckStillAborts) {
  EXPECT_EQ(RunConfined([]() -> int { abort(); }).signal, SIGABRT);
}

// ---- What can be seen of it from outside

std::map<std::string, std::string> StatusOf(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  std::map<std::string, std::string> status;
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(":\t");
    if (colon != std::string::npos) status[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return status;
}

TEST(Confinement, LeavesNoPrivilege) {
  SocketPair control;
  const pid_t child = fork();
  if (child == 0) {
    const bool confined = Confine().ok();
    static_cast<void>(write(control.b.get(), confined ? "y" : "n", 1));
    char byte = 0;
    static_cast<void>(read(control.b.get(), &byte, 1));
    _exit(0);
  }
  ASSERT_EQ(testing::ReceiveUpTo(control.a.get(), 1), "y");
  const auto status = StatusOf(child);
  EXPECT_EQ(status.at("NoNewPrivs"), "1");
  EXPECT_EQ(status.at("Seccomp"), "2");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
    EXPECT_EQ(status.at(set), "0000000000000000") << set;
  }
  if (geteuid() == 0) {
    EXPECT_EQ(status.at("CapBnd"), "0000000000000000");
  }
  rlimit limit{};
  EXPECT_EQ(prlimit(child, RLIMIT_CORE, nullptr, &limit), 0);
  EXPECT_EQ(limit.rlim_max, 0U);
  EXPECT_EQ(prlimit(child, RLIMIT_NOFILE, nullptr, &limit), 0);
  EXPECT_EQ(limit.rlim_max, kMaxDescriptors);
  EXPECT_TRUE(testing::SendAll(control.a.get(), "."));
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
}

}  // namespace
}  // namespace sealift::mover
