// What the agent and its mover say to each other: JSON datagrams over a SOCK_SEQPACKET socket, with
// descriptors. Guest bytes and keys never pass here; the migration key passes sealed to the mover's
// own key.
//
//   mover -> agent: Offer                 the mover runs; its HPKE public key
//   agent -> mover: Start + descriptors   spec, sealed key, sockets
//   mover -> agent: Connect               (source) asks for a connection of a stream
//   agent -> mover: Connection + fd       or ConnectionFailed
//   mover -> agent: Established           every stream has proved itself
//   agent -> mover: BeginCopy + fds       (source, direct engine) guest RAM and its writes
//   mover -> agent: CopyState             at every change, and with the counters
//   agent -> mover: FinishCopy            the guest stands still: copy the rest
//   mover -> agent: Counters              four times a second
//   mover -> agent: Ended | Failed        the last message
//
// The agent reads a mover's messages as it would a stranger's: the mover is the process that
// touches foreign bytes.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/socket.h"
#include "keys/key_schedule.h"
#include "keys/migration_spec.h"

namespace sealift::mover {

// Addresses at most on which a destination listens.
inline constexpr std::uint16_t kMaxListeners = 8;
// Data streams at most: a destination gets one descriptor for each, beside its listeners and the
// control channel.
inline constexpr std::uint16_t kMaxDataStreams = base::kMaxMessageFds - kMaxListeners - 1;

enum class Role : std::uint8_t { kSource = 1, kDestination = 2 };

struct Offer {
  base::Bytes public_key;
  std::string aead_backend;
};

// Chosen by us: unless the agent says otherwise.
inline constexpr std::uint32_t kReconnectSeconds = 30;

// RamBlock is one block of guest RAM. Its place in a list is its number on the wire.
struct RamBlock {
  std::uint64_t size = 0;     // bytes
  std::uint64_t address = 0;  // source: in the VM's process
};

// Start comes with descriptors, in this order: the control channel (SOCK_SEQPACKET, the agent's end
// of stream 0); source: the listening unix socket QEMU connects to; destination: 1 to kMaxListeners
// listening TCP sockets, the connections to QEMU of channels 0, 1, …, and with the direct engine
// the memory files of `blocks`, which are empty: all holes.
struct Start {
  Role role = Role::kSource;
  keys::MigrationSpec spec;
  base::Bytes sealed_key;
  std::vector<RamBlock> blocks{};
  std::uint32_t reconnect_seconds = kReconnectSeconds;  // without a connection, before it gives up
};

// QemuChannels says how many of the data streams are channels of QEMU: the first ones. With the
// direct engine the others carry pages.
[[nodiscard]] constexpr std::uint16_t QemuChannels(const keys::MigrationSpec& spec) {
  return spec.engine == keys::Engine::kDirect ? 1 : spec.streams;
}

// BeginCopy comes with /proc/PID/pagemap of the VM's process, the userfaultfd that its RAM is
// registered with (kept open, nothing else), and the memory files of `blocks`.
struct BeginCopy {
  std::vector<RamBlock> blocks;
  std::uint32_t downtime_limit_ms = 0;
};
struct FinishCopy {};

// CopyPhase of a direct copy. Zero is invalid.
enum class CopyPhase : std::uint8_t {
  kCopying = 1,
  kConverged = 2,  // the rest is copied within the downtime limit: stop the guest
  kFinished = 3,   // the destination has confirmed every round
};
struct CopyState {
  CopyPhase phase = CopyPhase::kCopying;
  std::uint32_t round = 0;
  std::uint32_t stalls = 0;       // times it made no headway: the guest writes as fast as it copies
  std::uint64_t total_bytes = 0;  // of guest RAM that is not empty
  std::uint64_t copied_bytes = 0;
  std::uint64_t remaining_bytes = 0;
  std::uint64_t dirty_bytes_per_second = 0;
};

struct Connect {
  std::uint16_t stream = 0;
  std::uint32_t generation = 0;
};
struct Connection {  // comes with one descriptor
  std::uint16_t stream = 0;
  std::uint32_t generation = 0;
};
struct ConnectionFailed {
  std::uint16_t stream = 0;
  std::uint32_t generation = 0;
};
struct Established {};
struct Counters {
  std::uint64_t wire_bytes = 0;     // both directions, TCP payload
  std::uint64_t payload_bytes = 0;  // guest bytes, both directions
};
struct Ended {};
struct Failed {
  std::string reason;
};

using ControlMessage =
    std::variant<Offer, Start, Connect, Connection, ConnectionFailed, Established, BeginCopy,
                 FinishCopy, CopyState, Counters, Ended, Failed>;

// EncodeControl and DecodeControl are inverse. Decoding is strict: an unknown type, a missing,
// surplus or out-of-range field is INVALID_ARGUMENT.
[[nodiscard]] std::string EncodeControl(const ControlMessage& message);
[[nodiscard]] absl::StatusOr<ControlMessage> DecodeControl(std::string_view bytes);

}  // namespace sealift::mover
