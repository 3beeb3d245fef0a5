#include "cli/interrupts.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "base/check.h"

namespace sealift::cli {
namespace {

bool Ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// Die ends the process as the signal would have.
[[noreturn]] void Die(int signal) {
  sigset_t only{};
  sigemptyset(&only);
  sigaddset(&only, signal);
  ::signal(signal, SIG_DFL);
  raise(signal);
  pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  ::_exit(128 + signal);
}

}  // namespace

Interrupts::Interrupts() {
  sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (!Ignored(signal)) sigaddset(&signals_, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  signal_fd_.reset(signalfd(-1, &signals_, SFD_CLOEXEC));
  end_fd_.reset(eventfd(0, EFD_CLOEXEC));
  SEALIFT_CHECK(signal_fd_.valid() && end_fd_.valid());
  watcher_ = std::thread([this] { Watch(); });
}

Interrupts::~Interrupts() {
  eventfd_write(end_fd_.get(), 1);
  watcher_.join();
  pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

void Interrupts::Watch() {
  pollfd fds[] = {{signal_fd_.get(), POLLIN, 0}, {end_fd_.get(), POLLIN, 0}};
  while (true) {
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info{};
    if (read(signal_fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      Deliver(static_cast<int>(info.ssi_signo));
    }
  }
}

void Interrupts::Deliver(int signal) {
  const std::lock_guard lock(mutex_);
  if (!handler_ || interrupted_) Die(signal);
  interrupted_ = true;
  handler_();
  changed_.notify_all();
}

Interrupts::Handling::Handling(Interrupts& interrupts, std::function<void()> handler)
    : interrupts_(interrupts) {
  const std::lock_guard lock(interrupts_.mutex_);
  SEALIFT_CHECK(!interrupts_.handler_);
  interrupts_.handler_ = std::move(handler);
  interrupts_.interrupted_ = false;
}

Interrupts::Handling::~Handling() {
  const std::lock_guard lock(interrupts_.mutex_);
  interrupts_.handler_ = nullptr;
}

bool Interrupts::Handling::interrupted() const {
  const std::lock_guard lock(interrupts_.mutex_);
  return interrupts_.interrupted_;
}

void Interrupts::Handling::Sleep(std::chrono::milliseconds time) const {
  std::unique_lock lock(interrupts_.mutex_);
  interrupts_.changed_.wait_for(lock, time, [this] { return interrupts_.interrupted_; });
}

}  // namespace sealift::cli
