#include "migration/peer_message.h"

#include "base/utf8.h"

namespace sealift::migration {

base::Bytes EncodePeerMessage(const PeerMessage& message) {
  base::Bytes bytes;
  base::AppendBig(bytes, static_cast<std::uint8_t>(message.type));
  base::Append(bytes, base::AsBytes(base::MakeUtf8(message.text, PeerMessage::kMaxText)));
  return bytes;
}

absl::StatusOr<PeerMessage> DecodePeerMessage(base::ByteSpan bytes) {
  if (bytes.empty() || bytes.size() > 1 + PeerMessage::kMaxText) {
    return absl::InvalidArgumentError("control message of the peer has a wrong size");
  }
  const auto type = base::LoadBig<std::uint8_t>(bytes);
  if (type < static_cast<std::uint8_t>(PeerMessageType::kReady) ||
      type > static_cast<std::uint8_t>(PeerMessageType::kResumed)) {
    return absl::InvalidArgumentError("control message of the peer has an unknown type");
  }
  return PeerMessage{static_cast<PeerMessageType>(type),
                     base::MakeUtf8(base::AsText(bytes.subspan(1)), PeerMessage::kMaxText)};
}

}  // namespace sealift::migration
