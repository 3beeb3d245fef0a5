// The agent's end of one sealift-mover process.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/config.h"
#include "base/clock.h"
#include "base/process.h"
#include "base/socket.h"
#include "base/system_user.h"
#include "base/unique_fd.h"
#include "migration/environment.h"
#include "mover/control.h"

namespace sealift::agent {

// MoverOptions of every mover of this agent.
struct MoverOptions {
  std::string binary;
  // The file as it was when the agent started: agent and mover are of one version, also when a
  // package has replaced both since. None: whatever is there.
  std::shared_ptr<const base::UniqueFd> program{};
  base::SystemUser user;
  Crypto crypto;
  Scheduling scheduling{};
  std::uint32_t reconnect_seconds = mover::kReconnectSeconds;
  bool huge_pages = true;  // for guest memory that it populates
};

// NetworkListener is where a mover at the destination listens.
struct NetworkListener {
  base::HostPort address;
  base::UniqueFd socket;
};

// MoverProcess starts a mover, answers what it asks for, and is its link for the state machines.
// Thread-safe. The mover is the process that parses foreign bytes: whatever it says is checked, and
// nothing it says can hurt more than its own migration.
class MoverProcess final : public migration::MoverLink {
 public:
  // Spawn does not wait for the new process: that is for WaitOffer.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<MoverProcess>> Spawn(
      const MoverOptions& options);
  MoverProcess(const MoverProcess&) = delete;
  MoverProcess& operator=(const MoverProcess&) = delete;
  // Gives the mover a moment to end by itself, then kills it.
  ~MoverProcess() override;

  [[nodiscard]] const base::ProcessId& id() const { return process_.id(); }
  // WaitOffer waits until the mover has tested itself and offers its public key. Once, before it is
  // started.
  [[nodiscard]] absl::StatusOr<mover::Offer> WaitOffer();

  // StartSource: QEMU connects to `channel_listener`, the mover's connections go to `destination`.
  [[nodiscard]] absl::Status StartSource(const keys::MigrationSpec& spec, base::Bytes sealed_key,
                                         const base::UniqueFd& channel_listener,
                                         std::vector<base::HostPort> destination);
  // StartDestination: the peer connects to `network_listeners`; `channels` are QEMU's, main first.
  // With the direct engine the mover writes to `memory`, which is all holes.
  [[nodiscard]] absl::Status StartDestination(const keys::MigrationSpec& spec,
                                              base::Bytes sealed_key,
                                              const std::vector<NetworkListener>& network_listeners,
                                              const std::vector<base::UniqueFd>& channels,
                                              const std::vector<hypervisor::MemoryBlock>& memory);

  // MoverLink
  [[nodiscard]] absl::Status WaitEstablished(base::Duration timeout) override;
  [[nodiscard]] absl::Status SendToPeer(const migration::PeerMessage& message) override;
  [[nodiscard]] absl::StatusOr<migration::PeerMessage> ReceiveFromPeer(
      base::Duration timeout) override;
  [[nodiscard]] absl::Status Health() override;
  [[nodiscard]] std::uint64_t wire_bytes() override;
  [[nodiscard]] std::chrono::seconds reconnect_limit() const override {
    return std::chrono::seconds(reconnect_seconds_);
  }
  [[nodiscard]] absl::Status BeginCopy(const std::vector<hypervisor::MemoryBlock>& memory,
                                       const hypervisor::WriteTracking& tracking,
                                       std::chrono::milliseconds downtime_limit) override;
  [[nodiscard]] absl::Status FinishCopy() override;
  [[nodiscard]] migration::CopyProgress WaitCopy(const migration::CopyProgress& seen,
                                                 base::Duration timeout,
                                                 std::stop_token stop) override;
  void Kill() override;

 private:
  MoverProcess(base::Process process, base::UniqueFd control, const MoverOptions& options);
  [[nodiscard]] absl::Status Start(mover::Start start, std::vector<int> fds);
  void Read();
  // An error ends the mover.
  [[nodiscard]] absl::Status Handle(const mover::ControlMessage& message);
  // BeginConnect leaves the reader free to hear the mover: a connection may take its time.
  [[nodiscard]] absl::Status BeginConnect(const mover::Connect& request);
  void Connect(const mover::Connect& request, const base::HostPort& destination);
  // " (connect to …: refused)" when the last connection failed, else nothing.
  [[nodiscard]] std::string WhyNotConnected();
  void SetGone(const absl::Status& why);

  const base::Process process_;
  const base::UniqueFd control_;
  const std::string binary_;
  const std::uint32_t reconnect_seconds_;
  base::UniqueFd
      peer_;  // our end of the control stream; set by Start, before the threads that use it

  std::mutex mutex_;
  std::condition_variable_any changed_;
  // Guarded by mutex_:
  std::vector<base::HostPort> destination_;
  std::uint16_t data_streams_ = 0;
  std::optional<mover::Offer> offer_;
  absl::Status connecting_;  // how the last connection went
  bool established_ = false;
  mover::Counters counters_;
  migration::CopyProgress copy_;
  absl::Status health_;

  std::thread reader_;
  std::map<std::uint16_t, std::thread> connectors_;  // by stream; the reader's
};

}  // namespace sealift::agent
