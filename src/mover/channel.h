// The local side of a relay: where the payload of a stream comes from and where it goes.
#pragma once

#include <poll.h>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "base/unique_fd.h"
#include "transport/stream.h"

namespace sealift::mover {

// Channel is used by one relay's thread. No call blocks.
class Channel {
 public:
  virtual ~Channel() = default;

  // Send puts the next record into `stream`, which has room for it, if there is one now.
  [[nodiscard]] virtual absl::Status Send(transport::Stream& stream) = 0;
  // HasMore says that Send would do something now, without waiting for a descriptor.
  [[nodiscard]] virtual bool HasMore() const = 0;
  // Destination is where the payload of the next data record is wanted, if it fits. Until Receive
  // is told of the record, whatever may stand there.
  [[nodiscard]] virtual base::MutableByteSpan Destination() { return {}; }
  // Receive takes one record of the peer. Its payload stays valid until Flush() has returned true.
  // An error ends the migration: the record was authentic, and has no place here.
  [[nodiscard]] virtual absl::Status Receive(const transport::Delivery& delivery) = 0;
  // Flush goes on with what Receive could not pass on at once; true when nothing is left of it.
  [[nodiscard]] virtual bool Flush() = 0;
  // WaitFor is what may happen on a descriptor that makes another call worth while; `room` says
  // whether the stream would take a record. Its descriptor is -1 when nothing can.
  [[nodiscard]] virtual pollfd WaitFor(bool room) const = 0;
};

// ChannelKind of a socket.
enum class ChannelKind {
  kBytes,     // a byte stream: kData records
  kMessages,  // SOCK_SEQPACKET datagrams: one kControl record each
};

// SocketChannel is a socket of another program: QEMU's, or the agent's end of the control stream.
// End of file is carried in each direction.
class SocketChannel final : public Channel {
 public:
  SocketChannel(base::UniqueFd socket, ChannelKind kind);

  [[nodiscard]] absl::Status Send(transport::Stream& stream) override;
  [[nodiscard]] bool HasMore() const override { return false; }
  [[nodiscard]] absl::Status Receive(const transport::Delivery& delivery) override;
  [[nodiscard]] bool Flush() override;
  [[nodiscard]] pollfd WaitFor(bool room) const override;

 private:
  const base::UniqueFd socket_;
  const ChannelKind kind_;
  base::ByteSpan undelivered_;
  bool read_ended_ = false;   // end of file from the socket: our final record was sent
  bool write_ended_ = false;  // the peer's final was passed on, or the socket's reader is gone
};

}  // namespace sealift::mover
