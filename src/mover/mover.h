// The mover: one process per migration and host. It holds the migration key, is the only one that
// parses what comes from the network, and carries the channels of one migration as sealed records
// over parallel TCP connections.
//
// Main thread (this class): the agent's socket, hellos, reconnecting, time limits. One Relay thread
// per stream: sealing, opening, copying. The main thread never blocks on the network; relays never
// touch another relay's state.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/socket.h"
#include "base/unique_fd.h"
#include "keys/hpke.h"
#include "keys/key_schedule.h"
#include "keys/random.h"
#include "mover/control.h"
#include "mover/direct_source.h"
#include "mover/guest_memory.h"
#include "mover/handshake.h"
#include "mover/relay.h"

namespace sealift::mover {

// ---- Chosen by us ----

// A key pair lives this long from its offer, on the boot clock; a spec that comes later is refused.
// The agent undoes a migration that was not started by then (agent::kStartLimit).
inline constexpr std::chrono::seconds kKeyPairLifetime{60};
// Between two tries to connect one stream, at most; jittered.
inline constexpr std::chrono::milliseconds kConnectBackoff{250};
// Hellos under way at a time; one of them makes room for the next.
inline constexpr std::size_t kMaxHandshakes = 64;
inline constexpr std::chrono::milliseconds kCountersEvery{250};

// Mover runs one migration. `agent` is the socket to the agent; `backend` has passed its self-test.
//
// It takes one Start, whose key opens only here, only once and only for the spec beside it (the
// HPKE info is the spec's hash), within kKeyPairLifetime of its offer. Anything else ends the mover
// with an error, and wipes what it holds.
class Mover final : private RelayEvents, private CopyEvents, private Admission {
 public:
  // `random` and `clock` must outlive the mover.
  Mover(base::UniqueFd agent, record::AeadBackend backend, keys::RandomSource& random,
        const base::Clock& clock);
  ~Mover() override;

  // Run returns when the migration has ended on this side (OK), has failed, or the agent is gone:
  // an agent that restarts undoes a copy that was under way.
  [[nodiscard]] absl::Status Run();

 private:
  using Time = std::chrono::steady_clock::time_point;

  // A stream whose connection is gone since `since`. Source only: not asked for again before
  // `next_try`.
  struct Lost {
    Time since;
    Time next_try;
  };
  // The agent or a hello is busy with a connection for it; lost since `since`.
  struct Joining {
    Time since;
  };
  struct Joined {};
  struct Finished {};  // ended in both directions
  using Link = std::variant<Lost, Joining, Joined, Finished>;

  struct StreamState {
    Link link;
    std::uint32_t generation = 0;  // source: last claimed; destination: last accepted
    std::unique_ptr<Relay> relay;
  };

  struct RelayEvent {
    std::uint16_t stream;
    enum class Kind { kDisconnected, kEnded, kFailed, kApplied } kind;
    std::string why;
    std::uint32_t number = 0;  // kDisconnected: the generation, kApplied: the round
  };

  // RelayEvents, on relay threads: queued for the main thread.
  void OnDisconnected(std::uint16_t stream, std::uint32_t generation,
                      const std::string& why) override;
  void OnEnded(std::uint16_t stream) override;
  void OnFailed(std::uint16_t stream, const absl::Status& why) override;
  // CopyEvents, on relay threads too.
  void OnApplied(std::uint16_t stream, std::uint32_t round) override;
  void Post(RelayEvent event);

  // Admission, on the main thread.
  [[nodiscard]] absl::Status Admit(const transport::HelloOpen& open) const override;
  [[nodiscard]] std::uint64_t StopReceiving(std::uint16_t stream) override;

  // Ends all streams and wipes every key.
  void Forget();
  [[nodiscard]] absl::Status Loop();
  [[nodiscard]] absl::Status Offer();
  // DEADLINE_EXCEEDED once the key pair is too old to be used.
  [[nodiscard]] absl::Status CheckKeyPairLifetime() const;
  [[nodiscard]] absl::Status PollOnce();
  [[nodiscard]] absl::Status OnAgentMessage();
  [[nodiscard]] absl::Status OnStart(const Start& start, std::vector<base::UniqueFd> fds);
  [[nodiscard]] absl::Status CheckStart(const Start& start, std::size_t fds) const;
  [[nodiscard]] absl::Status MakeRelays();
  // Hands the local sides to their streams; `fds` are those of Start.
  [[nodiscard]] absl::Status SetChannels(std::vector<base::UniqueFd> fds);
  [[nodiscard]] absl::Status SetPageSinks(std::vector<base::UniqueFd> files);
  [[nodiscard]] absl::Status OnBeginCopy(const BeginCopy& begin, std::vector<base::UniqueFd> fds);
  [[nodiscard]] absl::Status OnFinishCopy();
  [[nodiscard]] absl::Status OnAnswer(const ControlMessage& answer,
                                      std::vector<base::UniqueFd> fds);
  [[nodiscard]] absl::Status OnConnection(const Connection& message, base::UniqueFd connection);
  void OnChannelConnected();
  void OnNetworkConnected(const base::UniqueFd& listener);
  void DropAnyHandshake();
  void AdvanceHandshake(std::list<Handshake>::iterator handshake);
  void Join(Handshake handshake);
  [[nodiscard]] absl::Status HandleRelayEvents();
  [[nodiscard]] absl::Status OnTimer();
  [[nodiscard]] absl::Status CheckStreams(Time now);
  [[nodiscard]] absl::Status ReportEstablished();
  // Tells the agent of a direct copy when it has come further.
  [[nodiscard]] absl::Status ReportCopy();
  // The page streams look at their orders again.
  void WakePageStreams();
  // When a stream lost its connection; nothing while it has one or needs none.
  [[nodiscard]] static std::optional<Time> LostSince(const Link& link);
  void Lose(StreamState& stream);
  // Whether an answer of the agent is the one that a stream waits for.
  [[nodiscard]] bool Awaited(std::uint16_t stream, std::uint32_t generation) const;
  // Until the end it never waits: RESOURCE_EXHAUSTED when the agent does not read.
  [[nodiscard]] absl::Status Tell(const ControlMessage& message) const;
  [[nodiscard]] bool AllEnded() const;
  [[nodiscard]] bool source() const { return start_->role == Role::kSource; }

  base::UniqueFd agent_;
  const record::AeadBackend backend_;
  keys::RandomSource& random_;
  const base::Clock& clock_;
  std::unique_ptr<keys::HpkeReceiver> receiver_;
  base::Duration offered_at_{};

  // Set by Start.
  std::optional<Start> start_;
  std::optional<keys::KeySchedule> schedule_;
  base::UniqueFd channel_listener_;                // source: QEMU connects here
  std::vector<base::UniqueFd> network_listeners_;  // destination: the peer connects here
  // Direct engine: what the relays' channels use.
  std::vector<GuestMemory> destination_memory_;
  std::unique_ptr<DirectSource> direct_source_;
  CopyState told_copy_;
  std::vector<StreamState> streams_;
  std::size_t channels_accepted_ = 0;
  bool established_ = false;

  std::list<Handshake> handshakes_;
  std::minstd_rand jitter_;
  Time next_counters_;

  base::UniqueFd wake_;
  std::mutex events_mutex_;
  std::vector<RelayEvent> events_;  // guarded by events_mutex_
};

}  // namespace sealift::mover
