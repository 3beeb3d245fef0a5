#include "transport/hello.h"

#include <algorithm>

#include "base/status.h"

namespace sealift::transport {
namespace {

using base::Bytes;
using base::ByteSpan;

// Every failed proof and every malformed message looks the same here as to the peer: there is
// nothing to learn.
absl::Status BadHello() { return absl::PermissionDeniedError("bad hello"); }

Bytes Prefix(HelloKind kind, const HelloOpen& open) {
  Bytes message;
  base::AppendBig(message, kHelloMagic);
  base::AppendBig(message, kHelloVersion);
  base::AppendBig(message, static_cast<std::uint8_t>(kind));
  base::AppendBig(message, open.stream);
  base::AppendBig(message, open.generation);
  return message;
}

bool HasPrefix(ByteSpan message, HelloKind kind, const HelloOpen& open) {
  const Bytes prefix = Prefix(kind, open);
  return message.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), message.begin());
}

absl::StatusOr<keys::SecretBytes> MacKey(const keys::KeySchedule& schedule, const HelloOpen& open,
                                         keys::Direction direction) {
  return schedule.Derive({keys::Purpose::kHello, direction, open.stream, open.generation},
                         keys::kMacKeySize);
}

// Appends `message` to the transcript, then the MAC over the transcript to both.
void Prove(const keys::SecretBytes& key, Bytes& transcript, Bytes& message) {
  base::Append(transcript, message);
  const auto mac = keys::Mac(key, transcript);
  base::Append(transcript, mac);
  base::Append(message, mac);
}

// Appends `message` to the transcript and checks that it ends in the MAC over all before it.
bool CheckProof(const keys::SecretBytes& key, Bytes& transcript, ByteSpan message) {
  const ByteSpan said = message.first(message.size() - keys::kMacSize);
  base::Append(transcript, said);
  const auto expected = keys::Mac(key, transcript);
  base::Append(transcript, expected);
  return keys::ConstantTimeEqual(expected, message.last(keys::kMacSize));
}

}  // namespace

absl::StatusOr<HelloOpen> ParseHelloOpen(ByteSpan message) {
  if (message.size() != kHelloOpenSize) return BadHello();
  HelloOpen open;
  open.stream = base::LoadBig<std::uint16_t>(message.subspan(6));
  open.generation = base::LoadBig<std::uint32_t>(message.subspan(8));
  if (!HasPrefix(message, HelloKind::kOpen, open) || open.generation == 0) return BadHello();
  std::copy_n(message.begin() + kHelloPrefixSize, open.id.size(), open.id.begin());
  return open;
}

absl::StatusOr<HelloConnector> HelloConnector::Create(const keys::KeySchedule& schedule,
                                                      keys::RandomSource& random,
                                                      const HelloOpen& open,
                                                      std::uint64_t next_expected) {
  HelloConnector hello;
  hello.open_ = open;
  hello.next_expected_ = next_expected;
  SEALIFT_ASSIGN_OR_RETURN(hello.own_key_, MacKey(schedule, open, keys::Direction::kToDestination));
  SEALIFT_ASSIGN_OR_RETURN(hello.peer_key_, MacKey(schedule, open, keys::Direction::kToSource));
  std::array<std::byte, kHelloRandomSize> fresh{};
  SEALIFT_RETURN_IF_ERROR(random.Fill(fresh));
  Bytes message = Prefix(HelloKind::kOpen, open);
  base::Append(message, open.id);
  base::Append(message, fresh);
  Prove(hello.own_key_, hello.transcript_, message);
  return hello;
}

absl::StatusOr<Bytes> HelloConnector::Finish(ByteSpan reply) {
  if (reply.size() != kHelloReplySize || !HasPrefix(reply, HelloKind::kReply, open_) ||
      !CheckProof(peer_key_, transcript_, reply)) {
    return BadHello();
  }
  peer_next_expected_ =
      base::LoadBig<std::uint64_t>(reply.subspan(kHelloPrefixSize + kHelloRandomSize));
  Bytes message = Prefix(HelloKind::kFinish, open_);
  base::AppendBig(message, next_expected_);
  Prove(own_key_, transcript_, message);
  return message;
}

absl::StatusOr<HelloAcceptor> HelloAcceptor::Create(const keys::KeySchedule& schedule,
                                                    ByteSpan open) {
  HelloAcceptor hello;
  SEALIFT_ASSIGN_OR_RETURN(hello.open_, ParseHelloOpen(open));
  SEALIFT_ASSIGN_OR_RETURN(hello.peer_key_,
                           MacKey(schedule, hello.open_, keys::Direction::kToDestination));
  if (!CheckProof(hello.peer_key_, hello.transcript_, open)) return BadHello();
  SEALIFT_ASSIGN_OR_RETURN(hello.own_key_,
                           MacKey(schedule, hello.open_, keys::Direction::kToSource));
  return hello;
}

absl::StatusOr<Bytes> HelloAcceptor::Reply(keys::RandomSource& random,
                                           std::uint64_t next_expected) {
  std::array<std::byte, kHelloRandomSize> fresh{};
  SEALIFT_RETURN_IF_ERROR(random.Fill(fresh));
  Bytes message = Prefix(HelloKind::kReply, open_);
  base::Append(message, fresh);
  base::AppendBig(message, next_expected);
  Prove(own_key_, transcript_, message);
  return message;
}

absl::Status HelloAcceptor::Finish(ByteSpan finish) {
  if (finish.size() != kHelloFinishSize || !HasPrefix(finish, HelloKind::kFinish, open_) ||
      !CheckProof(peer_key_, transcript_, finish)) {
    return BadHello();
  }
  peer_next_expected_ = base::LoadBig<std::uint64_t>(finish.subspan(kHelloPrefixSize));
  return absl::OkStatus();
}

}  // namespace sealift::transport
