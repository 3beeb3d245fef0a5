// The bytes of a record, shared by sealer and opener. docs/protocol.md is the specification; change
// both together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "keys/migration_spec.h"

namespace sealift::record {

// ---- Dictated by the protocol ----

inline constexpr std::uint8_t kVersion = 1;

//  0        1        2        3        4                 6        8
// +--------+--------+--------+--------+-----------------+-----------------+
// | version| type   | flags  | zero   | stream          | zero            |
// +--------+--------+--------+--------+-----------------+-----------------+
// | sequence (8)                                                          |
// +-----------------------------------------------------------------------+
// | length of the payload (4)         | payload ... | tag (16, sealed only)
// +-----------------------------------+
inline constexpr std::size_t kHeaderSize = 20;
inline constexpr std::size_t kTagSize = 16;
inline constexpr std::size_t kIvSize = 12;

// RecordType of a record. Zero is invalid.
enum class RecordType : std::uint8_t {
  kData = 1,             // guest payload: a piece of the byte stream of this stream's channel
  kControl = 2,          // message of the engine or of the commit protocol
  kFinal = 3,            // authenticated end of this direction of the stream; empty payload
  kAcknowledgement = 4,  // next sequence expected (8 bytes); own key and sequence, never resent
};

// Flags. All other bits must be zero.
inline constexpr std::uint8_t kFlagPlain = 0x01;  // payload in the clear, no tag; kData only

// Payload of a kAcknowledgement.
inline constexpr std::size_t kAcknowledgementSize = 8;

// Largest payload: 2^18 bytes, 2^14 AES blocks. Both limits are bound into the spec.
inline constexpr std::size_t kMaxPayload = keys::kMaxPayload;

// Records sealed under one sub-key before the next rekey index: index = sequence >> kRekeyShift.
// - Invocations: SP 800-38D §8.3 allows 2^32 of a key, and exempts those who, like us, only use
//   96-bit deterministic IVs; this is 2^20.
// - Length of one message: SP 800-38D §5.2.1.1 allows 2^39 - 256 bits, 2^32 - 2 blocks; this is
//   2^14 blocks.
// - Amount: 2^20 records of 2^14 blocks and one for the tag are sigma = about 2^34 blocks, 256 GiB.
//   The advantage of telling AES-GCM from random bits is about sigma^2 / 2^129 = 2^-61, below the
//   2^-57 that RFC 8446 §5.5 accepts for TLS.
// - Forgery: one attempt on a record of 2^14 blocks succeeds with at most about 2^14 / 2^128 =
//   2^-114, and costs the attacker the connection.
inline constexpr unsigned kRekeyShift = keys::kRekeyShift;
inline constexpr std::uint64_t kRecordsPerKey = std::uint64_t{1} << kRekeyShift;
static_assert(kRecordsPerKey <= std::uint64_t{1} << 32, "SP 800-38D §8.3");
static_assert(kMaxPayload / 16 * kRecordsPerKey <= std::uint64_t{1} << 34, "RFC 8446 §5.5");

// A connection that acknowledges this often is broken (2^32 invocations of one key, SP 800-38D
// §8.3).
inline constexpr std::uint64_t kMaxAcknowledgements = std::uint64_t{1} << 32;

// ---- Chosen by us ----

// Payload size the stream engine aims at.
inline constexpr std::size_t kPreferredPayload = std::size_t{64} * 1024;

// Sequencing says where a stream starts and how often it rekeys. The default is the protocol; only
// tests pass another, to reach a rekey or the last sequence number.
struct Sequencing {
  std::uint64_t first = 0;
  unsigned rekey_shift = kRekeyShift;
};

}  // namespace sealift::record
