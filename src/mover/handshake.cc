#include "mover/handshake.h"

#include <sys/socket.h>

#include <cerrno>

#include "base/socket.h"
#include "base/status.h"

namespace sealift::mover {

absl::StatusOr<Handshake> Handshake::Connect(base::UniqueFd connection,
                                             transport::HelloConnector hello,
                                             const transport::HelloOpen& open) {
  const base::ByteSpan opening = hello.Open();
  const base::Bytes message(opening.begin(), opening.end());
  Handshake handshake(std::move(connection), std::move(hello));
  handshake.open_ = open;
  SEALIFT_RETURN_IF_ERROR(handshake.Say(message));
  return handshake;
}

Handshake Handshake::Accept(base::UniqueFd connection) {
  return Handshake(std::move(connection), Listening{});
}

Handshake::Handshake(base::UniqueFd connection, State state)
    : connection_(std::move(connection)), state_(std::move(state)) {}

bool Handshake::connecting() const {
  return std::holds_alternative<transport::HelloConnector>(state_);
}

std::size_t Handshake::MessageSize() const {
  if (std::holds_alternative<Listening>(state_)) return transport::kHelloOpenSize;
  return connecting() ? transport::kHelloReplySize : transport::kHelloFinishSize;
}

absl::StatusOr<bool> Handshake::ReceiveMessage() {
  // Never a byte beyond the message: what follows belongs to the stream.
  const std::size_t have = received_.size();
  received_.resize(MessageSize());
  const ssize_t got =
      recv(connection_.get(), received_.data() + have, received_.size() - have, MSG_DONTWAIT);
  const int error = errno;
  received_.resize(have + (got > 0 ? static_cast<std::size_t>(got) : 0));
  if (got == 0) return absl::UnavailableError("closed during the hello");
  if (got < 0 && !base::IsNotYet(error)) return base::ErrnoStatus("hello", error);
  return received_.size() == MessageSize();
}

absl::Status Handshake::Say(base::ByteSpan message) {
  // A fresh socket takes these few bytes at once.
  const ssize_t sent =
      send(connection_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent == static_cast<ssize_t>(message.size())) return absl::OkStatus();
  return absl::UnavailableError("connection lost during the hello");
}

absl::StatusOr<bool> Handshake::Advance(const keys::KeySchedule& schedule,
                                        keys::RandomSource& random, Admission& admission) {
  SEALIFT_ASSIGN_OR_RETURN(const bool complete, ReceiveMessage());
  if (!complete) return false;
  if (auto* connector = std::get_if<transport::HelloConnector>(&state_)) return OnReply(*connector);
  if (auto* acceptor = std::get_if<transport::HelloAcceptor>(&state_)) {
    return OnFinish(*acceptor, admission);
  }
  return OnOpen(schedule, random, admission);
}

absl::StatusOr<bool> Handshake::OnOpen(const keys::KeySchedule& schedule,
                                       keys::RandomSource& random, Admission& admission) {
  SEALIFT_ASSIGN_OR_RETURN(open_, transport::ParseHelloOpen(received_));
  SEALIFT_RETURN_IF_ERROR(admission.Admit(open_));
  SEALIFT_ASSIGN_OR_RETURN(auto hello, transport::HelloAcceptor::Create(schedule, received_));
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes reply,
                           hello.Reply(random, admission.StopReceiving(open_.stream)));
  SEALIFT_RETURN_IF_ERROR(Say(reply));
  state_ = std::move(hello);
  received_.clear();
  return false;
}

absl::StatusOr<bool> Handshake::OnReply(transport::HelloConnector& hello) {
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes finish, hello.Finish(received_));
  SEALIFT_RETURN_IF_ERROR(Say(finish));
  peer_next_expected_ = hello.peer_next_expected();
  return true;
}

absl::StatusOr<bool> Handshake::OnFinish(transport::HelloAcceptor& hello,
                                         const Admission& admission) {
  SEALIFT_RETURN_IF_ERROR(hello.Finish(received_));
  // Another connection of the stream may have been accepted since the opening message.
  SEALIFT_RETURN_IF_ERROR(admission.Admit(open_));
  peer_next_expected_ = hello.peer_next_expected();
  return true;
}

}  // namespace sealift::mover
