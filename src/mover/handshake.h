// The hello of one TCP connection, as far as it has got. Costs one small buffer until the peer has
// proved itself.
#pragma once

#include <chrono>
#include <optional>
#include <variant>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "keys/key_schedule.h"
#include "keys/random.h"
#include "transport/hello.h"

namespace sealift::mover {

// A connection that has not proved itself by then is closed.
inline constexpr std::chrono::seconds kHandshakeTimeout{5};

// Admission is what an acceptor knows of the streams.
class Admission {
 public:
  virtual ~Admission() = default;
  // Admit says whether such a connection makes sense: an error for another migration, an unknown
  // stream, or a generation that is not above the last that was joined.
  [[nodiscard]] virtual absl::Status Admit(const transport::HelloOpen& open) const = 0;
  // StopReceiving is called once the peer has proved that it begins a new connection: nothing is
  // taken from the old one any more. Returns the next sequence expected from the peer.
  [[nodiscard]] virtual std::uint64_t StopReceiving(std::uint16_t stream) = 0;
};

// Handshake owns a non-blocking connection until the hello is done.
class Handshake {
 public:
  // The source's side: sends the opening message at once.
  [[nodiscard]] static absl::StatusOr<Handshake> Connect(base::UniqueFd connection,
                                                         transport::HelloConnector hello,
                                                         const transport::HelloOpen& open);
  // The destination's side.
  [[nodiscard]] static Handshake Accept(base::UniqueFd connection);

  // Advance reads what has arrived and answers. True when both sides have proved themselves; an
  // error means: close and say nothing.
  [[nodiscard]] absl::StatusOr<bool> Advance(const keys::KeySchedule& schedule,
                                             keys::RandomSource& random, Admission& admission);

  [[nodiscard]] int fd() const { return connection_.get(); }
  [[nodiscard]] std::chrono::steady_clock::time_point started() const { return started_; }
  [[nodiscard]] bool connecting() const;
  // Valid after Advance returned true (for a connecting side: always).
  [[nodiscard]] const transport::HelloOpen& open() const { return open_; }
  [[nodiscard]] std::uint64_t peer_next_expected() const { return peer_next_expected_; }
  [[nodiscard]] base::UniqueFd TakeConnection() { return std::move(connection_); }

 private:
  // Waits for the opening message.
  struct Listening {};
  using State = std::variant<Listening, transport::HelloConnector, transport::HelloAcceptor>;

  Handshake(base::UniqueFd connection, State state);
  [[nodiscard]] std::size_t MessageSize() const;
  // True when the whole message is in received_.
  [[nodiscard]] absl::StatusOr<bool> ReceiveMessage();
  [[nodiscard]] absl::Status Say(base::ByteSpan message);
  [[nodiscard]] absl::StatusOr<bool> OnOpen(const keys::KeySchedule& schedule,
                                            keys::RandomSource& random, Admission& admission);
  [[nodiscard]] absl::StatusOr<bool> OnReply(transport::HelloConnector& hello);
  [[nodiscard]] absl::StatusOr<bool> OnFinish(transport::HelloAcceptor& hello,
                                              const Admission& admission);

  base::UniqueFd connection_;
  State state_;
  base::Bytes received_;
  transport::HelloOpen open_;
  std::uint64_t peer_next_expected_ = 0;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace sealift::mover
