// What one QEMU process has told us without being asked: its events, and its end.
//
//   QMP reader thread ── HandleEvent, HandleClosed ──▶ state ◀── waits ── callers
//   watcher thread    ── pidfd readable ──▶ reap, classify ──▶ exit callback
//
// The watcher outlives its monitor where a debugger keeps a process that has ended from being
// reaped.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/process.h"
#include "base/unique_fd.h"
#include "hypervisor/hypervisor.h"
#include "qemu/qmp_message.h"

namespace sealift::qemu {

// Direction of the newest migration. Source and destination use the same words for their states.
enum class Direction { kNone, kOutgoing, kIncoming };

struct MigrationView {
  Direction direction = Direction::kNone;
  hypervisor::MigrationState state = hypervisor::MigrationState::kNone;
};

// VmMonitor is thread-safe. The last reference to it may be dropped inside the exit callback.
class VmMonitor {
 public:
  // Watches `process`; keeps the file `console_log` short. A VM without QMP connection counts as
  // closed.
  VmMonitor(std::shared_ptr<const base::Process> process, std::string console_log);
  // Stops watching. The process is left alone.
  ~VmMonitor();
  VmMonitor(const VmMonitor&) = delete;
  VmMonitor& operator=(const VmMonitor&) = delete;

  // For the QMP client's reader. After HandleConnected() an end is only reported once
  // HandleClosed() was called, so that the last events count; at most a second later than the
  // process ended.
  void HandleConnected();
  void HandleEvent(const QmpEvent& event);
  void HandleClosed();

  // SetMigration notes what a command of ours or a query said.
  void SetMigration(MigrationView view);
  [[nodiscard]] MigrationView migration() const;
  // WaitMigration waits until `done` holds for the migration, the process ended, the time is over,
  // or `stop` is requested, and returns the view then.
  [[nodiscard]] MigrationView WaitMigration(const std::function<bool(const MigrationView&)>& done,
                                            base::Duration timeout,
                                            std::stop_token stop = {}) const;

  // WaitRunStateChange waits for the next STOP or RESUME after `seen`, a count that
  // RunStateChanges() returned.
  [[nodiscard]] int RunStateChanges() const;
  void WaitRunStateChange(int seen, base::Duration timeout) const;

  // ExpectExit: from now on an end of the process is our doing (Exit::kStopped).
  void ExpectExit();
  // WaitExit waits until the process has ended.
  [[nodiscard]] bool WaitExit(base::Duration timeout) const;
  void OnExit(std::function<void(hypervisor::Exit)> callback);

 private:
  struct State;
  static void Watch(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
  std::thread watcher_;
};

}  // namespace sealift::qemu
