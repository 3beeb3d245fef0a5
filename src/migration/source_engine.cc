#include "migration/source_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "migration/steps.h"
#include "migration/throttle.h"
#include "migration/write_back.h"

namespace sealift::migration {
namespace {

using hypervisor::MigrationParameters;
using hypervisor::MigrationState;

// QEMU stops a guest as soon as the rest may be sent within the downtime limit, however little it
// would be a moment later. So the limit begins low, and is raised with each round that was not
// enough for it: decision 0012.
class DowntimeLimit {
 public:
  DowntimeLimit(std::chrono::milliseconds first, std::chrono::milliseconds most)
      : most_(most), now_(first) {}

  [[nodiscard]] std::chrono::milliseconds now() const { return now_; }

  // Raise says whether `round`, the first of which is 1, is a new one, which has raised the limit.
  bool Raise(std::uint64_t round) {
    if (round <= round_ || now_ == most_) return false;
    round_ = round;
    now_ = std::min(2 * now_, most_);
    return true;
  }

 private:
  const std::chrono::milliseconds most_;
  std::chrono::milliseconds now_;
  std::uint64_t round_ = 1;
};

// The guest as the hypervisor itself sends it: all of it, or what is left when others move its RAM.
class StreamEngine final : public SourceEngine {
 public:
  // `first` is the downtime limit to begin with; that of the parameters is the highest.
  StreamEngine(std::string path, const MigrationParameters& parameters,
               std::chrono::milliseconds first, hypervisor::Vm& vm, MoverLink& mover,
               const Board& board, const base::Clock& clock)
      : path_(std::move(path)),
        parameters_(parameters),
        limit_(first, parameters.downtime_limit),
        vm_(vm),
        mover_(mover),
        board_(board),
        clock_(clock) {}

  absl::Status Begin() override {
    MigrationParameters first = parameters_;
    first.downtime_limit = limit_.now();
    return vm_.StartOutgoing(path_, first);
  }

  absl::StatusOr<bool> Copy(base::Duration timeout) override {
    if (limit_.Raise(round_)) SEALIFT_RETURN_IF_ERROR(vm_.SetDowntimeLimit(limit_.now()));
    SEALIFT_ASSIGN_OR_RETURN(state_, vm_.WaitOutgoing(state_, timeout, board_.cancel()));
    if (state_ == MigrationState::kPreSwitchover) return true;
    if (state_ == MigrationState::kSetup || state_ == MigrationState::kActive) return false;
    return Failed();
  }

  absl::Status Finish(base::Duration deadline) override {
    SEALIFT_RETURN_IF_ERROR(vm_.ContinueSwitchover(deadline - clock_.SinceBoot()));
    while (state_ != MigrationState::kCompleted) {
      const base::Duration left = deadline - clock_.SinceBoot();
      if (left <= base::Duration::zero()) {
        return absl::DeadlineExceededError("the guest's state was not sent within 3 s");
      }
      SEALIFT_RETURN_IF_ERROR(Interruption(board_, mover_));
      SEALIFT_ASSIGN_OR_RETURN(
          state_,
          vm_.WaitOutgoing(state_, std::min<base::Duration>(left, kLookEvery), board_.cancel()));
      if (state_ == MigrationState::kFailed || state_ == MigrationState::kCancelled) {
        return absl::AbortedError("the hypervisor could not hand over the guest's state");
      }
    }
    return absl::OkStatus();
  }

  void Release() override {}
  absl::Status Undo() override { return absl::OkStatus(); }

  void Describe(Snapshot& snapshot) override {
    const absl::StatusOr<hypervisor::OutgoingProgress> progress = vm_.Outgoing();
    if (!progress.ok() || progress->ram_total_bytes == 0) return;
    snapshot.ram_total_bytes = progress->ram_total_bytes;
    snapshot.ram_transferred_bytes = progress->ram_transferred_bytes;
    snapshot.ram_remaining_bytes = progress->ram_remaining_bytes;
    snapshot.dirty_bytes_per_second = progress->dirty_bytes_per_second;
    snapshot.iterations = progress->iterations;
    round_ = progress->iterations;
  }

 private:
  [[nodiscard]] absl::Status Failed() {
    const absl::StatusOr<hypervisor::OutgoingProgress> progress = vm_.Outgoing();
    return absl::AbortedError(
        fmt::format("the hypervisor ended the migration: {}{}", MigrationStateName(state_),
                    progress.ok() && !progress->error.empty() ? ": " + progress->error : ""));
  }

  const std::string path_;
  const MigrationParameters parameters_;
  DowntimeLimit limit_;
  std::uint64_t round_ = 0;  // as last described
  hypervisor::Vm& vm_;
  MoverLink& mover_;
  const Board& board_;
  const base::Clock& clock_;
  MigrationState state_ = MigrationState::kSetup;
};

// One round may happen to be a busy one.
constexpr std::uint32_t kStallsToFail = 3;

MigrationParameters WithoutMemory(MigrationParameters parameters) {
  parameters.multifd_channels = 0;
  parameters.ignore_shared = true;
  parameters.auto_converge = false;
  return parameters;
}

// Guest RAM as the mover reads it, in rounds; then the hypervisor sends what is no RAM.
//
//   Begin: track writes ─▶ rounds ─▶ converged ─▶ disks written back ─▶ hypervisor stops the guest
//   ─▶ Finish: last round, confirmed by the destination ─▶ device state
class DirectEngine final : public SourceEngine {
 public:
  DirectEngine(const SourceOptions& options, hypervisor::Vm& vm, MoverLink& mover,
               const Board& board, const base::Clock& clock)
      : rest_(options.channel_path, WithoutMemory(options.parameters),
              options.parameters.downtime_limit, vm, mover, board, clock),
        downtime_limit_(options.parameters.downtime_limit),
        on_no_convergence_(options.on_no_convergence),
        vm_(vm),
        mover_(mover),
        board_(board),
        clock_(clock),
        throttle_(vm),
        write_back_(vm, clock) {}

  absl::Status Begin() override {
    SEALIFT_ASSIGN_OR_RETURN(const std::vector<hypervisor::MemoryBlock> memory, vm_.SharedMemory());
    SEALIFT_ASSIGN_OR_RETURN(const hypervisor::WriteTracking tracking, vm_.BeginTracking());
    return mover_.BeginCopy(memory, tracking, downtime_limit_);
  }

  absl::StatusOr<bool> Copy(base::Duration timeout) override {
    if (rest_begun_) return rest_.Copy(timeout);
    if (progress_.phase != CopyProgress::Phase::kCopying) return BeginRest(timeout);
    const std::uint32_t stalls = progress_.stalls;
    progress_ = mover_.WaitCopy(progress_, timeout, board_.cancel());
    const bool stalled =
        progress_.phase == CopyProgress::Phase::kCopying && progress_.stalls != stalls;
    if (stalled) SEALIFT_RETURN_IF_ERROR(OnStall());
    return false;
  }

  absl::Status Finish(base::Duration deadline) override {
    SEALIFT_RETURN_IF_ERROR(mover_.FinishCopy());
    while (progress_.phase != CopyProgress::Phase::kFinished) {
      const base::Duration left = deadline - clock_.SinceBoot();
      if (left <= base::Duration::zero()) {
        return absl::DeadlineExceededError("the rest of the guest's memory was not sent in 3 s");
      }
      SEALIFT_RETURN_IF_ERROR(Interruption(board_, mover_));
      progress_ =
          mover_.WaitCopy(progress_, std::min<base::Duration>(left, kLookEvery), board_.cancel());
    }
    return rest_.Finish(deadline);
  }

  void Release() override { throttle_.Release(); }
  absl::Status Undo() override { return vm_.EndTracking(); }

  void Describe(Snapshot& snapshot) override {
    snapshot.ram_total_bytes = progress_.total_bytes;
    snapshot.ram_transferred_bytes = progress_.copied_bytes;
    snapshot.ram_remaining_bytes = progress_.remaining_bytes;
    snapshot.dirty_bytes_per_second = progress_.dirty_bytes_per_second;
    snapshot.iterations = progress_.round;
    const int percent = throttle_.percent();
    snapshot.detail = percent == 0 ? "" : fmt::format("the guest is slowed down by {} %", percent);
    if (write_back_.under_way()) snapshot.detail = "its disks are being written back";
  }

 private:
  // The mover keeps the rest of the memory small meanwhile.
  absl::StatusOr<bool> BeginRest(base::Duration timeout) {
    SEALIFT_ASSIGN_OR_RETURN(const bool written, write_back_.Wait(timeout, board_.cancel()));
    progress_ = mover_.WaitCopy(progress_, base::Duration::zero(), board_.cancel());
    if (!written) return false;
    throttle_.Release();
    SEALIFT_RETURN_IF_ERROR(rest_.Begin());
    rest_begun_ = true;
    return false;
  }

  absl::Status OnStall() {
    if (on_no_convergence_ == NoConvergence::kFail) {
      if (progress_.stalls < kStallsToFail) return absl::OkStatus();
      return absl::AbortedError(fmt::format(
          "the guest writes {} MB/s, faster than its memory can be copied: try again when it is "
          "less busy, or with --on-no-convergence throttle",
          progress_.dirty_bytes_per_second / 1'000'000));
    }
    throttle_.Raise();
    return absl::OkStatus();
  }

  StreamEngine rest_;
  const std::chrono::milliseconds downtime_limit_;
  const NoConvergence on_no_convergence_;
  hypervisor::Vm& vm_;
  MoverLink& mover_;
  const Board& board_;
  const base::Clock& clock_;
  CopyProgress progress_;
  Throttle throttle_;
  WriteBack write_back_;
  bool rest_begun_ = false;
};

MigrationParameters ForStream(const SourceOptions& options) {
  MigrationParameters parameters = options.parameters;
  parameters.auto_converge = options.on_no_convergence == NoConvergence::kThrottle;
  return parameters;
}

// Where the hypervisor forgets writes, fewer rounds are worth more than a short downtime.
std::chrono::milliseconds FirstLimit(const SourceOptions& options) {
  constexpr int kShare = 10;
  const std::chrono::milliseconds most = options.parameters.downtime_limit;
  return options.few_rounds ? most : std::max(most / kShare, std::chrono::milliseconds(1));
}

}  // namespace

std::unique_ptr<SourceEngine> MakeSourceEngine(const SourceOptions& options, hypervisor::Vm& vm,
                                               MoverLink& mover, const Board& board,
                                               const base::Clock& clock) {
  if (options.engine == EngineName::kDirect) {
    return std::make_unique<DirectEngine>(options, vm, mover, board, clock);
  }
  return std::make_unique<StreamEngine>(options.channel_path, ForStream(options),
                                        FirstLimit(options), vm, mover, board, clock);
}

}  // namespace sealift::migration
