// What the tests of sealer and opener share: one migration, one stream, both ends.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>

#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "keys/testing.h"
#include "record/aead.h"
#include "record/opener.h"
#include "record/sealer.h"

namespace sealift::record {

inline constexpr std::uint16_t kStream = 3;
inline constexpr auto kForward = keys::Direction::kToDestination;
inline constexpr auto kBackward = keys::Direction::kToSource;

inline keys::KeySchedule MakeSchedule(std::uint8_t first_key_byte = 0, std::string_view vm = "vm") {
  keys::MigrationSpec spec;
  spec.vm = vm;
  keys::testing::CountingRandom random(first_key_byte);
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(),
                                   keys::HashSpec(spec))
      .value();
}

inline Sealer MakeSealer(const keys::KeySchedule& schedule,
                         keys::Protection protection = keys::Protection::kSealed,
                         Sequencing sequencing = {}) {
  return Sealer::Create(schedule, BestBackend().value(), kStream, kForward, protection, sequencing)
      .value();
}

inline RecordOpener MakeOpener(const keys::KeySchedule& schedule,
                               keys::Protection protection = keys::Protection::kSealed,
                               Sequencing sequencing = {}) {
  return RecordOpener::Create(schedule, BestBackend().value(), kStream, kForward, protection,
                              sequencing)
      .value();
}

// Seals into a buffer of its own.
inline base::Bytes SealRecord(Sealer& sealer, RecordType type, std::string_view payload) {
  base::Bytes out(kHeaderSize + payload.size() + kTagSize);
  out.resize(sealer.Seal(type, base::AsBytes(payload), out).value());
  return out;
}

// A header made by hand.
inline base::Bytes HeaderBytesOf(const RecordHeader& header) {
  const HeaderBytes bytes = header.Encode();
  return base::Bytes(bytes.begin(), bytes.end());
}

inline void FlipBit(base::Bytes& bytes, std::size_t bit) {
  bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
}

}  // namespace sealift::record
