// The phases of one migration, as the source and the destination see them. Each is a type that
// holds only what exists in it; a transition is a function that consumes the old phase and returns
// the next (source.cc, destination.cc).
//
// clang-format off
//   source                                                destination
//
//   Preparing ── streams proved ──▶ Copying               Preparing ── streams proved ──▶ Receiving
//   Copying ──── pre-switchover ──▶ Switching             Receiving ── all received ────▶ Ready
//   Switching ── commit written ──▶ Committed             Ready ────── told: commit ────▶ Completed
//   Committed ── peer resumed ────▶ Completed             Ready ────── told: abort ─────▶ Ended
//   Preparing, Copying, Switching                         Preparing, Receiving
//             ── error, cancel ───▶ Ended                           ── error, cancel ───▶ Ended
// clang-format on
//
// transitions.inc is the same as a table. docs/state_machine.md says what each one is for.
//
// The source decides. Before its commit every doubt is resolved for the source: the guest goes on
// there. After it the guest is the destination's, whatever happens. The destination decides
// nothing: once Ready it waits for a decision, however long.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>

#include "base/clock.h"

namespace sealift::migration {

// ---- Chosen by us ----

// From the start of the movers to all streams proved.
inline constexpr std::chrono::seconds kEstablishLimit{35};
// From the guest's stop to the written commit; a switch-over that takes longer is rolled back.
inline constexpr std::chrono::seconds kSwitchoverLimit{3};
// How long a copy may stand still beyond the time that the mover waits for a lost connection.
inline constexpr std::chrono::seconds kStandstillLimit{30};
// How long a guest that is to run, and does not, is tried again. After it a destination takes the
// guest as it is, for its agent to go on trying; a source goes on by itself.
inline constexpr std::chrono::seconds kRunLimit{30};
// How often a waiting phase looks at cancellation, health and progress.
inline constexpr std::chrono::milliseconds kLookEvery{200};

struct Preparing {};

// Source only.
struct Copying {};
struct Switching {
  base::Duration stopped_at{};  // time since boot when the guest was stopped
};
struct Committed {
  base::Duration stopped_at{};
};

// Destination only.
struct Receiving {};
struct Ready {};

// Completed: the guest runs at the destination.
struct Completed {
  std::string note;  // empty, or what went wrong after the commit
};
// Ended before the commit: the guest runs at the source.
struct Ended {
  enum class Why { kFailed, kCancelled } why = Why::kFailed;
  std::string reason;
};

using SourcePhase = std::variant<Preparing, Copying, Switching, Committed, Completed, Ended>;
using DestinationPhase = std::variant<Preparing, Receiving, Ready, Completed, Ended>;

// PhaseName as users see it; the names of api/sealift/v1/types.proto.
enum class PhaseName : std::uint8_t {
  kPreparing = 1,
  kCopying = 2,
  kSwitching = 3,
  kCommitted = 4,
  kCompleted = 5,
  kFailed = 6,
  kCancelled = 7,
};

[[nodiscard]] PhaseName NameOf(const SourcePhase& phase);
[[nodiscard]] PhaseName NameOf(const DestinationPhase& phase);

// IsTransition says whether one phase may follow the other: whether transitions.inc has the two.
[[nodiscard]] bool IsTransition(const SourcePhase& from, const SourcePhase& to);
[[nodiscard]] bool IsTransition(const DestinationPhase& from, const DestinationPhase& to);

// Snapshot of a migration on one host, for whoever watches.
struct Snapshot {
  PhaseName phase = PhaseName::kPreparing;
  std::string detail;   // cause of a failure, or what is being waited for
  std::string receipt;  // destination: what came with the source's commit
  std::uint64_t ram_total_bytes = 0;
  std::uint64_t ram_transferred_bytes = 0;
  std::uint64_t ram_remaining_bytes = 0;
  std::uint64_t dirty_bytes_per_second = 0;
  std::uint64_t iterations = 0;
  std::uint64_t wire_bytes = 0;
  std::uint64_t bytes_per_second = 0;
  std::chrono::milliseconds elapsed{0};
  std::chrono::milliseconds downtime{0};
};

[[nodiscard]] constexpr bool IsFinal(PhaseName phase) { return phase >= PhaseName::kCompleted; }

}  // namespace sealift::migration
