// How a guest gets from the source to the destination: the part of a migration that differs between
// the engines. docs/design.md, "The stream engine", "The direct engine".
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "hypervisor/hypervisor.h"
#include "migration/board.h"
#include "migration/environment.h"
#include "migration/phase.h"

namespace sealift::migration {

// EngineName of an engine.
enum class EngineName { kStream, kDirect };

// What to do about a guest that writes faster than it can be copied.
enum class NoConvergence {
  kThrottle,  // slow it down, step by step
  kFail,      // give the migration up
};

// SourceOptions of one migration.
struct SourceOptions {
  std::string channel_path;  // unix socket on which the mover listens for QEMU's channels
  hypervisor::MigrationParameters parameters;
  EngineName engine = EngineName::kStream;
  NoConvergence on_no_convergence = NoConvergence::kThrottle;
  bool few_rounds = false;  // the hypervisor forgets writes (hypervisor::ForgetsWrites)
  std::string receipt;      // what the destination is given with the commit
};

// SourceEngine copies; SourceMigration decides. One thread, in this order:
//
//   Begin ─▶ Copy, Copy, … until true ─▶ Finish
//   after any of them: Release, then, once the mover is gone and the guest goes on here, Undo
class SourceEngine {
 public:
  virtual ~SourceEngine() = default;

  // Begin starts to copy the running guest.
  [[nodiscard]] virtual absl::Status Begin() = 0;
  // Copy goes on for `timeout` at most, and until a cancel. True: the guest now stands still for
  // the switch-over.
  [[nodiscard]] virtual absl::StatusOr<bool> Copy(base::Duration timeout) = 0;
  // Finish copies what is left, until the hypervisor has handed the guest over; DEADLINE_EXCEEDED
  // at `deadline`, a time since boot, CANCELLED at a cancel.
  [[nodiscard]] virtual absl::Status Finish(base::Duration deadline) = 0;
  // Release lets the guest run at full speed again, at once.
  virtual void Release() = 0;
  // Undo gives the guest back what the copy has changed for it.
  [[nodiscard]] virtual absl::Status Undo() = 0;
  // Describe puts its counters, and what it has to say, into `snapshot`.
  virtual void Describe(Snapshot& snapshot) = 0;
};

// MakeSourceEngine makes the engine of the options. Everything else must outlive it.
[[nodiscard]] std::unique_ptr<SourceEngine> MakeSourceEngine(const SourceOptions& options,
                                                             hypervisor::Vm& vm, MoverLink& mover,
                                                             const Board& board,
                                                             const base::Clock& clock);

}  // namespace sealift::migration
