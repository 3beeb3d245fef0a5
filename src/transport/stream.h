// One stream of a migration: sealed records in both directions, in order, exactly once, over one
// TCP connection at a time.
//
// A Stream does no I/O. Its owner moves bytes between it and a socket:
//
//   channel -> PayloadBuffer/Send -> [sealed, kept until acknowledged] -> Outgoing/Sent -> socket
//   channel <- Next               <- [opened in place]         <- ReceiveBuffer/Received <- socket
//
// When a connection is lost the owner detaches it, and attaches the next one with what the peer
// says it has received: everything after that is sent again, byte for byte. Acknowledgements belong
// to one connection (sub-key per generation) and are not resent.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "record/aead.h"
#include "record/opener.h"
#include "record/record_format.h"
#include "record/sealer.h"

namespace sealift::transport {

// ---- Dictated by the protocol ----

// Records kept for resending at most, per stream and direction; the sender waits at the limit. Each
// takes a buffer of payload_size. With kPreferredPayload that is 4 MiB in all: small, so that
// QEMU's own bandwidth estimate, which counts bytes into its local socket, stays true.
inline constexpr std::size_t kMaxRetainedRecords = 64;
// Received data records after which an acknowledgement is due, whatever their size: a sender at its
// limit waits for it. Control and final records are acknowledged at once.
inline constexpr std::size_t kAcknowledgeEvery = 8;

// ---- Chosen by us ----

inline constexpr std::size_t kReceiveBufferSize = 1U << 20;

// StreamOptions of one stream at one end.
struct StreamOptions {
  record::AeadBackend backend = record::AeadBackend::kOpenssl;
  std::uint16_t stream = 0;
  keys::Direction sending = keys::Direction::kToDestination;
  keys::Protection protection = keys::Protection::kSealed;
  record::Sequencing sequencing = {};                    // the protocol's; a test may rekey sooner
  std::size_t payload_size = record::kPreferredPayload;  // of PayloadBuffer
};

// Delivery is one record for the owner. `payload` is where Next() was asked to put it, or valid
// until the next ReceiveBuffer(), also when the connection is lost before.
struct Delivery {
  record::RecordType type{};
  base::ByteSpan payload;
};

// Stream is owned and used by one thread.
class Stream {
 public:
  // `schedule` must outlive the stream.
  [[nodiscard]] static absl::StatusOr<Stream> Create(const keys::KeySchedule& schedule,
                                                     const StreamOptions& options);

  // Attach begins connection `generation` after its hello. `peer_next_expected` is what the peer
  // said; a number that we never sent, or that it acknowledged before and now takes back, is an
  // error and nothing changes.
  [[nodiscard]] absl::Status Attach(std::uint32_t generation, std::uint64_t peer_next_expected);
  // Detach ends the connection; what was not acknowledged stays, what was not opened is forgotten
  // (the peer sends it again).
  void Detach();

  // -- Sending

  // HasRoom says that another record may be sent.
  [[nodiscard]] bool HasRoom() const;
  // PayloadBuffer is where the owner puts the payload of the next record: payload_size bytes.
  [[nodiscard]] base::MutableByteSpan PayloadBuffer();
  // Send seals the first `size` bytes of PayloadBuffer() as one record. An error is for ever.
  [[nodiscard]] absl::Status Send(record::RecordType type, std::size_t size);
  // SendFrom is Send with a payload of at most payload_size bytes that stays where it is. It may
  // change while it is read: each byte is read once.
  [[nodiscard]] absl::Status SendFrom(record::RecordType type, base::ByteSpan payload);
  // Outgoing is what to write to the socket next; empty when there is nothing to write or no
  // connection. An acknowledgement is sealed only here, so at most one ever waits.
  [[nodiscard]] base::ByteSpan Outgoing();
  // Sent says that the first `size` bytes of the last Outgoing() were written.
  void Sent(std::size_t size);

  // -- Receiving

  // ReceiveBuffer is where to put bytes of the socket; never empty. Invalidates the last Delivery.
  [[nodiscard]] base::MutableByteSpan ReceiveBuffer();
  void Received(std::size_t size);
  // Next opens the next complete record; acknowledgements are taken in on the way. The payload of a
  // data record that fits into `into` is opened to there, else it stays in the receive buffer.
  // Nothing when bytes are missing. PERMISSION_DENIED means that the connection is to be dropped;
  // what is in `into` was then perhaps overwritten with zeros.
  [[nodiscard]] absl::StatusOr<std::optional<Delivery>> Next(base::MutableByteSpan into = {});

  // -- Observers

  // The next sequence expected from the peer: what a hello tells it.
  [[nodiscard]] std::uint64_t next_expected() const { return opener_.next_sequence(); }
  // Our final record was sent, and the peer has acknowledged everything.
  [[nodiscard]] bool send_ended() const { return final_sent_ && retained_.empty(); }
  // Payload sealed and opened so far, in bytes.
  [[nodiscard]] std::uint64_t payload_bytes() const { return payload_bytes_; }
  // The peer's final record was delivered.
  [[nodiscard]] bool receive_ended() const { return opener_.ended(); }

 private:
  // Not cleared: the first touch of memory that is perhaps never used is part of what a migration
  // costs, and of what it waits for before its first page.
  using Buffer = std::unique_ptr<std::byte[]>;

  // A sealed record kept for resending.
  struct Retained {
    Buffer bytes;
    std::size_t size = 0;
  };

  Stream(const keys::KeySchedule& schedule, const StreamOptions& options, record::Sealer sealer,
         record::RecordOpener opener);
  // The size of the buffers that hold one record.
  [[nodiscard]] std::size_t RecordBufferSize() const;
  [[nodiscard]] Buffer TakeBuffer();
  void ReleaseBefore(std::uint64_t sequence);
  [[nodiscard]] absl::StatusOr<record::Opened> OpenFront(base::MutableByteSpan waiting,
                                                         base::MutableByteSpan into);
  void SealAcknowledgement();
  [[nodiscard]] bool AcknowledgementWaits() const;
  [[nodiscard]] base::ByteSpan UnsentRecord();

  const keys::KeySchedule* schedule_;
  StreamOptions options_;
  record::Sealer sealer_;
  record::RecordOpener opener_;

  // Records first_retained_ .. sealer_.next_sequence() - 1, of which those before next_to_write_
  // were handed to this connection.
  std::deque<Retained> retained_;
  std::uint64_t first_retained_ = 0;
  std::uint64_t next_to_write_ = 0;
  std::size_t written_of_record_ = 0;  // of record next_to_write_
  std::vector<Buffer> spare_buffers_;
  Buffer payload_buffer_;
  bool final_sent_ = false;
  std::uint64_t payload_bytes_ = 0;

  Buffer receive_buffer_;  // of kReceiveBufferSize
  std::size_t receive_begin_ = 0;
  std::size_t receive_end_ = 0;
  std::size_t unacknowledged_records_ = 0;

  // Exist while a connection is attached.
  std::optional<record::AcknowledgementSealer> acknowledgement_sealer_;
  std::optional<record::AcknowledgementOpener> acknowledgement_opener_;
  bool acknowledgement_due_ = false;
  std::array<std::byte, record::AcknowledgementSealer::kSize> acknowledgement_{};
  std::size_t acknowledgement_written_ =
      acknowledgement_.size();  // of the sealed one; all: none waits
  absl::Status failure_;        // of SealAcknowledgement, returned by Next
};

}  // namespace sealift::transport
