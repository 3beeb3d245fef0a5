// What the state machines of a migration need from the agent around them.
#pragma once

#include <chrono>
#include <cstdint>
#include <stop_token>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "hypervisor/hypervisor.h"
#include "migration/peer_message.h"

namespace sealift::migration {

// CopyProgress of a direct copy, as the mover at the source tells it.
struct CopyProgress {
  enum class Phase : std::uint8_t {
    kCopying = 1,
    kConverged = 2,  // what is left fits the downtime limit: the guest may be stopped
    kFinished = 3,   // the destination has confirmed that it has everything
  };
  Phase phase = Phase::kCopying;
  std::uint32_t round = 0;
  std::uint32_t stalls = 0;  // times it made no headway: the guest writes as fast as it copies
  std::uint64_t total_bytes = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t remaining_bytes = 0;
  std::uint64_t dirty_bytes_per_second = 0;
};

// MoverLink is the mover of this migration on this host. Thread-safe. All calls return at once when
// the mover has gone (UNAVAILABLE, with the mover's own reason).
class MoverLink {
 public:
  virtual ~MoverLink() = default;

  // WaitEstablished blocks until every stream has proved itself to the peer; DEADLINE_EXCEEDED
  // after `timeout`.
  [[nodiscard]] virtual absl::Status WaitEstablished(base::Duration timeout) = 0;
  // SendToPeer puts a message on the control stream. It is delivered unless the mover or the
  // migration ends first.
  [[nodiscard]] virtual absl::Status SendToPeer(const PeerMessage& message) = 0;
  // ReceiveFromPeer blocks for the next message of the peer; DEADLINE_EXCEEDED after `timeout`.
  [[nodiscard]] virtual absl::StatusOr<PeerMessage> ReceiveFromPeer(base::Duration timeout) = 0;
  // Health is OK while the mover runs.
  [[nodiscard]] virtual absl::Status Health() = 0;
  // Bytes on the migration network so far, both directions.
  [[nodiscard]] virtual std::uint64_t wire_bytes() = 0;
  // How long it waits for a connection that was lost before it gives up.
  [[nodiscard]] virtual std::chrono::seconds reconnect_limit() const = 0;

  // -- Direct engine, at the source.

  // BeginCopy lets the mover copy guest RAM, round after round. It has descriptors of its own then:
  // the tracking lasts until the mover's end.
  [[nodiscard]] virtual absl::Status BeginCopy(const std::vector<hypervisor::MemoryBlock>& memory,
                                               const hypervisor::WriteTracking& tracking,
                                               std::chrono::milliseconds downtime_limit) = 0;
  // FinishCopy: the guest stands still, copy the rest.
  [[nodiscard]] virtual absl::Status FinishCopy() = 0;
  // WaitCopy blocks until phase, round or stalls are not those of `seen`, `timeout` has passed, or
  // `stop` is requested, and returns the progress then.
  [[nodiscard]] virtual CopyProgress WaitCopy(const CopyProgress& seen, base::Duration timeout,
                                              std::stop_token stop) = 0;

  // Kill ends the mover at once; QEMU sees its sockets close. Harmless when it has gone.
  virtual void Kill() = 0;
};

// LedgerStep is one durable step of a migration on one host. The ledger and the agent's inventory
// change together.
enum class LedgerStep {
  kDelegated,  // source: this agent decides; the guest may be found stopped by this migration
  kCommitted,  // source: the guest belongs to the destination. Irrevocable
  kAborted,    // source: takes the place of a commit that is in doubt; the guest is to go on here
  kResumed,    // source: the guest goes on here, nothing of the migration is left
  kReleased,   // source: the guest is gone from here; the VM leaves the inventory
  kReceiving,  // destination: a QEMU waits for the guest
  kReady,      // destination: received; only a decision may end this
  kOwned,      // destination: the guest was told to run; the VM enters the inventory
  kDropped,    // destination: nothing of it is left here
};

// Ledger writes steps down. OK means on disk, an error that it is not; only after DATA_LOSS it may
// be, and the next step that is written takes its place.
class Ledger {
 public:
  virtual ~Ledger() = default;
  [[nodiscard]] virtual absl::Status Write(LedgerStep step) = 0;
};

}  // namespace sealift::migration
