// What the two agents of a migration tell each other, sealed, over the control stream.
// docs/protocol.md, "Control messages".
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sealift::migration {

// PeerMessageType. Zero is invalid.
enum class PeerMessageType : std::uint8_t {
  kReady = 1,    // destination: everything is received and the guest can run here
  kCommit = 2,   // source: the decision is written; the guest is yours. The text is the receipt
  kAbort = 3,    // source: drop what you have received
  kResumed = 4,  // destination: the guest runs here
};

// PeerMessage is one datagram: the type (1 byte), then UTF-8 text, for people unless its type
// says otherwise, at most kMaxText bytes.
struct PeerMessage {
  static constexpr std::size_t kMaxText = 1024;

  PeerMessageType type{};
  std::string text;
};

// Both cut an over-long text and replace what is no UTF-8.
[[nodiscard]] base::Bytes EncodePeerMessage(const PeerMessage& message);
[[nodiscard]] absl::StatusOr<PeerMessage> DecodePeerMessage(base::ByteSpan bytes);

}  // namespace sealift::migration
