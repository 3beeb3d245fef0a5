// A relay joins one local channel (a socket of QEMU, the agent's control channel, or guest memory)
// with one stream.
//
// Each relay is one thread that does four things as long as they do not block, then waits in
// poll(2):
//
//   1. channel -> seal       while the stream has room for another record
//   2. sealed  -> connection
//   3. connection -> open    while nothing is waiting for the channel
//   4. opened  -> channel
//
// so back-pressure passes through unchanged and memory is bounded. One mutex guards everything; the
// thread holds it except in poll, so the mover's main thread, which hands over channels and
// connections, never waits longer than one round. The relay reports through RelayEvents. Losing the
// connection is not the end: the relay waits for the next one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "mover/channel.h"
#include "transport/stream.h"

namespace sealift::mover {

// RelayEvents is told what happens. Calls come from the relay's thread, under its mutex: they must
// not call the relay.
class RelayEvents {
 public:
  virtual ~RelayEvents() = default;
  // Connection `generation` is gone; the stream has not ended.
  virtual void OnDisconnected(std::uint16_t stream, std::uint32_t generation,
                              const std::string& why) = 0;
  // Both directions have ended and everything is acknowledged.
  virtual void OnEnded(std::uint16_t stream) = 0;
  // The relay cannot go on, whatever connection it gets.
  virtual void OnFailed(std::uint16_t stream, const absl::Status& why) = 0;
};

// Relay of one stream. Public calls come from the main thread.
class Relay {
 public:
  // `events` must outlive the relay.
  Relay(std::uint16_t number, transport::Stream stream, RelayEvents& events);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  // Stops the thread and closes channel and connection.
  ~Relay();

  // SetChannel hands over the local side, once.
  void SetChannel(std::unique_ptr<Channel> channel);
  // Wake makes the relay look at its channel again. From any thread.
  void Wake();
  // StopReceiving drops the current connection, without an event, and returns the next sequence
  // expected from the peer: what a hello says. It stays true until SetConnection.
  [[nodiscard]] std::uint64_t StopReceiving();
  // SetConnection hands over a connection whose hello is done, in place of the current one. An
  // error (see Stream::Attach) means that it was closed and there is none.
  [[nodiscard]] absl::Status SetConnection(base::UniqueFd connection, std::uint32_t generation,
                                           std::uint64_t peer_next_expected);

  [[nodiscard]] std::uint64_t wire_bytes() const { return wire_bytes_.load(); }
  [[nodiscard]] std::uint64_t payload_bytes() const { return payload_bytes_.load(); }

 private:
  void Run();
  void Wait(std::unique_lock<std::mutex>& lock);
  [[nodiscard]] absl::Status Pump();
  [[nodiscard]] absl::Status ReadChannel();
  void WriteConnection();
  void ReadConnection();
  [[nodiscard]] absl::Status OpenRecords();
  void CloseConnection();
  void Disconnect(const std::string& why);
  [[nodiscard]] bool HasRoom() const { return channel_ != nullptr && stream_.HasRoom(); }
  [[nodiscard]] bool CanReadConnection() const;
  // Nothing of this stream is left to send or to receive.
  [[nodiscard]] bool Settled();

  const std::uint16_t number_;
  RelayEvents& events_;
  const base::UniqueFd wake_;
  std::atomic<std::uint64_t> wire_bytes_{0};
  std::atomic<std::uint64_t> payload_bytes_{0};

  std::mutex mutex_;
  // Guarded by mutex_:
  bool stop_ = false;
  transport::Stream stream_;
  std::unique_ptr<Channel> channel_;
  base::UniqueFd connection_;
  std::uint32_t generation_ = 0;      // of the last connection
  bool channel_readable_ = false;     // as of the last wait
  bool connection_readable_ = false;  // as of the last wait
  bool channel_took_all_ = true;      // what was opened is passed on
  bool settled_ = false;              // as of the last connection's end
  bool reported_end_ = false;

  std::thread thread_;
};

}  // namespace sealift::mover
