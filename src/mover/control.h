// What the agent and its mover say to each other: JSON datagrams over a SOCK_SEQPACKET socket, with
// descriptors. Guest bytes and keys never pass here; the migration key passes sealed to the mover's
// own key.
//
//   mover -> agent: Offer                 the mover runs; its HPKE public key
//   agent -> mover: Start + descriptors   spec, sealed key, sockets
//   mover -> agent: Connect               (source) asks for a connection of a stream
//   agent -> mover: Connection + fd       or ConnectionFailed
//   mover -> agent: Established           every stream has proved itself
//   mover -> agent: Counters              four times a second
//   mover -> agent: Ended | Failed        the last message
//
// The agent reads a mover's messages as it would a stranger's: the mover is the process that
// touches foreign bytes.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/socket.h"
#include "keys/key_schedule.h"
#include "keys/migration_spec.h"

namespace sealift::mover {

// Data streams at most: a destination gets one descriptor for each, beside two others.
inline constexpr std::uint16_t kMaxDataStreams = base::kMaxMessageFds - 2;

enum class Role : std::uint8_t { kSource = 1, kDestination = 2 };

struct Offer {
  base::Bytes public_key;
  std::string aead_backend;
};

// Start comes with descriptors, in this order: the control channel (SOCK_SEQPACKET, the agent's end
// of stream 0); source: the listening unix socket QEMU connects to; destination: one listening TCP
// socket, then the connections to QEMU of channels 0, 1, ….
struct Start {
  Role role = Role::kSource;
  keys::MigrationSpec spec;
  base::Bytes sealed_key;
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

using ControlMessage = std::variant<Offer, Start, Connect, Connection, ConnectionFailed,
                                    Established, Counters, Ended, Failed>;

// EncodeControl and DecodeControl are inverse. Decoding is strict: an unknown type, a missing,
// surplus or out-of-range field is INVALID_ARGUMENT.
[[nodiscard]] std::string EncodeControl(const ControlMessage& message);
[[nodiscard]] absl::StatusOr<ControlMessage> DecodeControl(std::string_view bytes);

}  // namespace sealift::mover
