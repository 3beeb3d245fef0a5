// The hello of one connection: three fixed-size messages in which both sides prove, with fresh
// randomness, that they hold the key of the same migration, stream and generation, and say what
// they have received. docs/protocol.md, "Hello", is the specification.
//
//   connector (source)                                   acceptor (destination)
//   open:   migration id, stream, generation, random  ->
//                                                     <-  reply:  random, next sequence expected
//   finish: next sequence expected                    ->
//
// Each message ends in a MAC over everything said so far. No guest byte moves before both proofs; a
// wrong message gets a close and no answer. The generation of a stream only grows, and the
// connector claims it before it connects.
#pragma once

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "keys/migration_spec.h"
#include "keys/random.h"
#include "keys/secret_bytes.h"

namespace sealift::transport {

// ---- Dictated by the protocol ----

inline constexpr std::uint32_t kHelloMagic = 0x534C4654;  // "SLFT"
inline constexpr std::uint8_t kHelloVersion = 1;
inline constexpr std::size_t kHelloRandomSize = 16;

//  magic (4) | version (1) | kind (1) | stream (2) | generation (4) | body | MAC (32)
inline constexpr std::size_t kHelloPrefixSize = 12;
inline constexpr std::size_t kHelloOpenSize = kHelloPrefixSize + 16 + 16 + keys::kMacSize;
inline constexpr std::size_t kHelloReplySize = kHelloPrefixSize + 16 + 8 + keys::kMacSize;
inline constexpr std::size_t kHelloFinishSize = kHelloPrefixSize + 8 + keys::kMacSize;

// HelloKind of a message. Zero is invalid.
enum class HelloKind : std::uint8_t { kOpen = 1, kReply = 2, kFinish = 3 };

// HelloOpen is what an acceptor reads off the first message before it can check the proof.
struct HelloOpen {
  keys::MigrationId id{};
  std::uint16_t stream = 0;
  std::uint32_t generation = 0;
};

// ParseHelloOpen checks form, not proof. `message` is kHelloOpenSize bytes.
[[nodiscard]] absl::StatusOr<HelloOpen> ParseHelloOpen(base::ByteSpan message);

// HelloConnector is the source's half. One object per connection.
class HelloConnector {
 public:
  // `next_expected` is the next sequence this side expects from the peer.
  [[nodiscard]] static absl::StatusOr<HelloConnector> Create(const keys::KeySchedule& schedule,
                                                             keys::RandomSource& random,
                                                             const HelloOpen& open,
                                                             std::uint64_t next_expected);
  // Open is the first message to send.
  [[nodiscard]] base::ByteSpan Open() const { return transcript_; }
  // Finish checks the reply (kHelloReplySize bytes) and returns the last message to send.
  // Afterwards peer_next_expected() is known.
  [[nodiscard]] absl::StatusOr<base::Bytes> Finish(base::ByteSpan reply);
  [[nodiscard]] std::uint64_t peer_next_expected() const { return peer_next_expected_; }

 private:
  HelloConnector() = default;

  HelloOpen open_;
  std::uint64_t next_expected_ = 0;
  std::uint64_t peer_next_expected_ = 0;
  keys::SecretBytes own_key_;
  keys::SecretBytes peer_key_;
  base::Bytes transcript_;
};

// HelloAcceptor is the destination's half. One object per connection.
class HelloAcceptor {
 public:
  // Create checks the proof of an opening message whose id, stream and generation the caller has
  // found acceptable.
  [[nodiscard]] static absl::StatusOr<HelloAcceptor> Create(const keys::KeySchedule& schedule,
                                                            base::ByteSpan open);
  // Reply returns the message to send. `next_expected` is the next sequence this side expects from
  // the peer, so nothing may be taken from an older connection of the stream any more.
  [[nodiscard]] absl::StatusOr<base::Bytes> Reply(keys::RandomSource& random,
                                                  std::uint64_t next_expected);
  // Finish checks the last message (kHelloFinishSize bytes). Only after it is the connection the
  // peer's, and peer_next_expected() known.
  [[nodiscard]] absl::Status Finish(base::ByteSpan finish);
  [[nodiscard]] std::uint64_t peer_next_expected() const { return peer_next_expected_; }

 private:
  HelloAcceptor() = default;

  HelloOpen open_;
  std::uint64_t peer_next_expected_ = 0;
  keys::SecretBytes own_key_;
  keys::SecretBytes peer_key_;
  base::Bytes transcript_;
};

}  // namespace sealift::transport
