#include "cli/testing_child.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include "base/check.h"

namespace sealift::cli {
namespace {

constexpr std::chrono::seconds kPatience{20};

struct Pipe {
  base::UniqueFd read;
  base::UniqueFd write;
};

Pipe MakePipe() {
  std::array<int, 2> fds{};
  SEALIFT_CHECK(pipe2(fds.data(), O_CLOEXEC) == 0);
  return {base::UniqueFd(fds[0]), base::UniqueFd(fds[1])};
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Spawn starts a program in a session of its own, with the usual signal handling whatever ours is.
pid_t Spawn(const std::string& program, const std::vector<std::string>& arguments,
            const std::map<std::string, std::string>& environment, std::array<int, 3> streams) {
  std::vector<std::string> argument_texts{program};
  argument_texts.insert(argument_texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (const auto& [name, value] : environment) variables.push_back(name + '=' + value);

  posix_spawn_file_actions_t actions{};
  posix_spawn_file_actions_init(&actions);
  for (int number = 0; const int stream : streams) {
    posix_spawn_file_actions_adddup2(&actions, stream, number++);
  }
  posix_spawnattr_t attributes{};
  posix_spawnattr_init(&attributes);
  sigset_t none{};
  sigset_t all{};
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  SEALIFT_CHECK(posix_spawn(&pid, program.c_str(), &actions, &attributes,
                            Pointers(argument_texts).data(), Pointers(variables).data()) == 0);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

}  // namespace

void Child::Collector::Start(int fd) {
  thread_ = std::thread([this, fd] { Collect(fd); });
}

void Child::Collector::Collect(int fd) {
  std::array<char, 4096> buffer{};
  ssize_t size = 0;
  while ((size = read(fd, buffer.data(), buffer.size())) > 0) {
    const std::lock_guard lock(mutex_);
    text_.append(buffer.data(), static_cast<std::size_t>(size));
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

bool Child::Collector::WaitFor(const std::string& text) {
  std::unique_lock lock(mutex_);
  const auto written = [&] { return text_.find(text) != std::string::npos; };
  changed_.wait_for(lock, kPatience, [&] { return ended_ || written(); });
  return written();
}

std::string Child::Collector::Join() {
  if (thread_.joinable()) thread_.join();
  return text_;
}

Child::Collector::~Collector() { Join(); }

Child::Child(const std::string& program, const std::vector<std::string>& arguments,
             const std::map<std::string, std::string>& environment, Wiring wiring) {
  if (wiring == Wiring::kTerminal) {
    int master = -1;
    int slave = -1;
    const winsize size{24, 80, 0, 0};
    SEALIFT_CHECK(openpty(&master, &slave, nullptr, nullptr, &size) == 0);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    fcntl(slave, F_SETFD, FD_CLOEXEC);
    output_.reset(master);
    input_.reset(dup(master));
    slave_.reset(slave);
    pid_ = Spawn(program, arguments, environment, {slave, slave, slave});
    out_.Start(output_.get());
    return;
  }
  Pipe in = MakePipe();
  Pipe out = MakePipe();
  Pipe err = MakePipe();
  pid_ = Spawn(program, arguments, environment, {in.read.get(), out.write.get(), err.write.get()});
  input_ = std::move(in.write);
  output_ = std::move(out.read);
  errors_ = std::move(err.read);
  out_.Start(output_.get());
  err_.Start(errors_.get());
}

Child::~Child() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    Wait();
  }
}

void Child::Type(const std::string& text) {
  SEALIFT_CHECK(write(input_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

void Child::Signal(int signal) const { kill(pid_, signal); }

bool Child::Raw() const {
  termios mode{};
  SEALIFT_CHECK(tcgetattr(slave_.get(), &mode) == 0);
  return (mode.c_lflag & ICANON) == 0;
}

Result Child::Wait() {
  if (!slave_.valid()) CloseInput();
  int status = 0;
  SEALIFT_CHECK(waitpid(pid_, &status, 0) == pid_);
  pid_ = -1;
  Result result;
  result.raw = slave_.valid() && Raw();
  slave_.reset();  // the last one: the terminal's reader ends
  result.out = out_.Join();
  result.err = err_.Join();
  if (WIFEXITED(status)) result.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

}  // namespace sealift::cli
