#include "qemu/vm_monitor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "qemu/migration_json.h"
#include "qemu/run_folder.h"

namespace sealift::qemu {
namespace {

using hypervisor::Exit;

constexpr auto kLogLook = std::chrono::seconds(10);
constexpr auto kReapEvery = std::chrono::seconds(1);
constexpr std::size_t kMaxConsoleLog = 8U << 20;

}  // namespace

struct VmMonitor::State {
  std::shared_ptr<const base::Process> process;
  std::string console_log;
  base::UniqueFd stop_fd;  // readable once the monitor is being destroyed

  mutable std::mutex mutex;
  mutable std::condition_variable_any changed;
  bool connected = false;
  bool stopping = false;
  bool watched = false;  // the watcher calls nobody any more
  bool exit_expected = false;
  MigrationView migration;
  int run_state_changes = 0;
  std::string shutdown_reason;  // of the SHUTDOWN event
  std::optional<Exit> exit;
  std::function<void(Exit)> on_exit;

  [[nodiscard]] Exit Classify() const {
    if (exit_expected || shutdown_reason == "host-qmp-quit") return Exit::kStopped;
    if (shutdown_reason == "guest-shutdown") return Exit::kGuestShutdown;
    return Exit::kCrashed;
  }

  // AwaitEnd blocks until the process has ended; false when the monitor is destroyed first.
  bool AwaitEnd() const {
    for (;;) {
      pollfd waits[] = {{.fd = process->pidfd(), .events = POLLIN, .revents = 0},
                        {.fd = stop_fd.get(), .events = POLLIN, .revents = 0}};
      (void)poll(waits, 2, static_cast<int>(std::chrono::milliseconds(kLogLook).count()));
      if (waits[1].revents != 0) return false;
      if (waits[0].revents != 0) return true;
      TrimLog(console_log, kMaxConsoleLog);
    }
  }

  void NoteEnd() {
    (void)process->Reap();
    std::unique_lock lock(mutex);
    changed.wait_for(lock, std::chrono::seconds(1), [&] { return !connected || stopping; });
    exit = Classify();
    changed.notify_all();
  }

  // ServeCallbacks runs each callback that is set, once, until the monitor is destroyed.
  void ServeCallbacks() {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return stopping || on_exit; });
      if (stopping) return;
      std::function<void(Exit)> callback = std::exchange(on_exit, nullptr);
      lock.unlock();
      callback(*exit);
      callback = nullptr;  // may drop the last reference to the monitor
      lock.lock();
    }
  }

  void NoteWatched() {
    const std::lock_guard lock(mutex);
    watched = true;
    changed.notify_all();
  }
};

VmMonitor::VmMonitor(std::shared_ptr<const base::Process> process, std::string console_log)
    : state_(std::make_shared<State>()) {
  state_->process = std::move(process);
  state_->console_log = std::move(console_log);
  state_->stop_fd.reset(eventfd(0, EFD_CLOEXEC));
  SEALIFT_CHECK(state_->stop_fd.valid());
  watcher_ = std::thread([state = state_] { Watch(state); });
}

VmMonitor::~VmMonitor() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->changed.notify_all();
  }
  eventfd_write(state_->stop_fd.get(), 1);
  // An exit callback that drops the last reference destroys us on the watcher's own thread.
  if (watcher_.get_id() != std::this_thread::get_id()) {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait(lock, [this] { return state_->watched; });
  }
  watcher_.detach();
}

void VmMonitor::Watch(const std::shared_ptr<State>& state) {
  const bool ended = state->AwaitEnd();
  if (ended) {
    state->NoteEnd();
    state->ServeCallbacks();
  }
  state->NoteWatched();
  // A debugger holds the process: it can be reaped once that lets go.
  while (ended && state->process->IsToBeReaped() && !state->process->Reap()) {
    std::this_thread::sleep_for(kReapEvery);
  }
}

void VmMonitor::HandleConnected() {
  const std::lock_guard lock(state_->mutex);
  state_->connected = true;
}

void VmMonitor::HandleEvent(const QmpEvent& event) {
  const std::lock_guard lock(state_->mutex);
  if (event.name == "MIGRATION") {
    state_->migration.state = ParseMigrationState(TextAt(event.data, "status"));
  } else if (event.name == "SHUTDOWN") {
    state_->shutdown_reason = TextAt(event.data, "reason");
  } else if (event.name == "STOP" || event.name == "RESUME") {
    ++state_->run_state_changes;
  }
  state_->changed.notify_all();
}

void VmMonitor::HandleClosed() {
  const std::lock_guard lock(state_->mutex);
  state_->connected = false;
  state_->changed.notify_all();
}

void VmMonitor::SetMigration(MigrationView view) {
  const std::lock_guard lock(state_->mutex);
  state_->migration = view;
  state_->changed.notify_all();
}

MigrationView VmMonitor::migration() const {
  const std::lock_guard lock(state_->mutex);
  return state_->migration;
}

MigrationView VmMonitor::WaitMigration(const std::function<bool(const MigrationView&)>& done,
                                       base::Duration timeout, std::stop_token stop) const {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_for(lock, std::move(stop), timeout,
                           [&] { return done(state_->migration) || state_->exit.has_value(); });
  return state_->migration;
}

int VmMonitor::RunStateChanges() const {
  const std::lock_guard lock(state_->mutex);
  return state_->run_state_changes;
}

void VmMonitor::WaitRunStateChange(int seen, base::Duration timeout) const {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_for(
      lock, timeout, [&] { return state_->run_state_changes != seen || state_->exit.has_value(); });
}

void VmMonitor::ExpectExit() {
  const std::lock_guard lock(state_->mutex);
  state_->exit_expected = true;
}

bool VmMonitor::WaitExit(base::Duration timeout) const {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, timeout, [&] { return state_->exit.has_value(); });
}

void VmMonitor::OnExit(std::function<void(Exit)> callback) {
  const std::lock_guard lock(state_->mutex);
  state_->on_exit = std::move(callback);
  state_->changed.notify_all();
}

}  // namespace sealift::qemu
