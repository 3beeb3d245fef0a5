#include "agent/mover_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kOfferLimit{10};
constexpr seconds kConnectLimit{5};
constexpr seconds kEndLimit{2};

struct SocketPair {
  base::UniqueFd ours;
  base::UniqueFd theirs;
};

absl::StatusOr<SocketPair> MakePair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus("make a socket pair", errno);
  }
  return SocketPair{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
}

// What mover_main.cc reads.
std::vector<std::string> ArgumentsFor(int control, const Crypto& crypto) {
  return {fmt::format("{}", control),
          crypto.backend ? std::string(record::AeadBackendName(*crypto.backend)) : "auto",
          crypto.provider == keys::Provider::kFips ? "fips" : "default"};
}

std::vector<mover::RamBlock> BlocksOf(const std::vector<hypervisor::MemoryBlock>& memory) {
  std::vector<mover::RamBlock> blocks;
  blocks.reserve(memory.size());
  for (const hypervisor::MemoryBlock& block : memory) blocks.push_back({block.size, block.address});
  return blocks;
}

migration::CopyProgress ProgressOf(const mover::CopyState& state) {
  using Phase = migration::CopyProgress::Phase;
  migration::CopyProgress progress;
  progress.phase = state.phase == mover::CopyPhase::kCopying     ? Phase::kCopying
                   : state.phase == mover::CopyPhase::kConverged ? Phase::kConverged
                                                                 : Phase::kFinished;
  progress.round = state.round;
  progress.stalls = state.stalls;
  progress.total_bytes = state.total_bytes;
  progress.copied_bytes = state.copied_bytes;
  progress.remaining_bytes = state.remaining_bytes;
  progress.dirty_bytes_per_second = state.dirty_bytes_per_second;
  return progress;
}

// Waits for a datagram, or the end of the peer.
absl::Status WaitReadable(int fd, base::Duration timeout) {
  pollfd waiting{fd, POLLIN, 0};
  const auto millis = std::chrono::ceil<milliseconds>(std::max(timeout, base::Duration::zero()));
  const int ready = poll(&waiting, 1, static_cast<int>(millis.count()));
  if (ready < 0 && errno != EINTR) return base::ErrnoStatus("wait", errno);
  if (ready <= 0) return absl::DeadlineExceededError("no answer in time");
  return absl::OkStatus();
}

// While it has one thread: the others inherit this.
absl::Status Schedule(const base::Process& process, const Scheduling& scheduling) {
  const auto pid = process.id().pid;
  if (setpriority(PRIO_PROCESS, static_cast<id_t>(pid), scheduling.nice) != 0) {
    return base::ErrnoStatus("lower the priority of a mover", errno);
  }
  if (scheduling.cpus.empty()) return absl::OkStatus();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (const int cpu : scheduling.cpus) CPU_SET(cpu, &cpus);
  if (sched_setaffinity(pid, sizeof cpus, &cpus) != 0) {
    return base::ErrnoStatus("give a mover the processors of mover_cpus in agent.yaml", errno);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<MoverProcess>> MoverProcess::Spawn(const MoverOptions& options) {
  SEALIFT_ASSIGN_OR_RETURN(SocketPair control, MakePair());
  const base::SpawnRequest request{
      .binary = options.binary,
      .arguments = ArgumentsFor(control.theirs.get(), options.crypto),
      .user = options.user,
      .inherited_fds = {control.theirs.get()},
      .log_fd = STDERR_FILENO,
      .huge_pages = options.huge_pages,
      .program_fd = options.program ? options.program->get() : -1,
  };
  SEALIFT_ASSIGN_OR_RETURN(
      base::Process process,
      base::Process::Spawn(request, [](const auto& /*id*/) { return absl::OkStatus(); }));
  control.theirs.reset();
  const absl::Status scheduled = Schedule(process, options.scheduling);
  std::unique_ptr<MoverProcess> mover(
      new MoverProcess(std::move(process), std::move(control.ours), options));
  SEALIFT_RETURN_IF_ERROR(scheduled);
  return mover;
}

MoverProcess::MoverProcess(base::Process process, base::UniqueFd control,
                           const MoverOptions& options)
    : process_(std::move(process)),
      control_(std::move(control)),
      binary_(options.binary),
      reconnect_seconds_(options.reconnect_seconds) {
  reader_ = std::thread([this] { Read(); });
}

absl::StatusOr<mover::Offer> MoverProcess::WaitOffer() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kOfferLimit, [this] { return offer_ || !health_.ok(); });
  if (offer_) return *offer_;
  const absl::Status why =
      health_.ok() ? absl::DeadlineExceededError("it did not offer a key in time") : health_;
  return base::Annotate(why, fmt::format("start {}", binary_));
}

MoverProcess::~MoverProcess() {
  // Closing our end of the control stream lets it end; one that was never started has nothing to
  // wait for.
  const bool started = peer_.valid();
  peer_.reset();
  if (!started || !process_.WaitGone(kEndLimit)) Kill();
  reader_.join();
}

void MoverProcess::Kill() {
  static_cast<void>(process_.Send(SIGKILL));
  static_cast<void>(process_.WaitGone(kEndLimit));
  process_.Reap();
}

absl::Status MoverProcess::StartSource(const keys::MigrationSpec& spec, base::Bytes sealed_key,
                                       const base::UniqueFd& channel_listener,
                                       std::vector<base::HostPort> destination) {
  {
    const std::lock_guard lock(mutex_);
    destination_ = std::move(destination);
    data_streams_ = spec.streams;
  }
  return Start({mover::Role::kSource, spec, std::move(sealed_key), {}}, {channel_listener.get()});
}

absl::Status MoverProcess::StartDestination(const keys::MigrationSpec& spec, base::Bytes sealed_key,
                                            const std::vector<NetworkListener>& network_listeners,
                                            const std::vector<base::UniqueFd>& channels,
                                            const std::vector<hypervisor::MemoryBlock>& memory) {
  std::vector<int> fds;
  fds.reserve(network_listeners.size() + channels.size() + memory.size());
  for (const NetworkListener& listener : network_listeners) fds.push_back(listener.socket.get());
  for (const base::UniqueFd& channel : channels) fds.push_back(channel.get());
  for (const hypervisor::MemoryBlock& block : memory) fds.push_back(block.file.get());
  return Start({mover::Role::kDestination, spec, std::move(sealed_key), BlocksOf(memory)},
               std::move(fds));
}

absl::Status MoverProcess::Start(mover::Start start, std::vector<int> fds) {
  SEALIFT_ASSIGN_OR_RETURN(SocketPair peer, MakePair());
  fds.insert(fds.begin(), peer.theirs.get());
  start.reconnect_seconds = reconnect_seconds_;
  peer_ = std::move(peer.ours);
  return base::SendMessage(control_.get(), mover::EncodeControl(start), fds);
}

void MoverProcess::Read() {
  absl::Status status;
  while (status.ok()) {
    absl::StatusOr<base::Message> message = base::ReceiveMessage(control_.get());
    if (!message.ok()) {
      status = absl::UnavailableError("the mover process has ended");
      break;
    }
    absl::StatusOr<mover::ControlMessage> decoded = mover::DecodeControl(message->bytes);
    status = decoded.ok() ? Handle(*decoded) : decoded.status();
  }
  SetGone(status);
  for (auto& [stream, connector] : connectors_) connector.join();
  // It has nothing left to do here, or is not to be trusted.
  if (!process_.WaitGone(kEndLimit)) Kill();
  process_.Reap();
}

absl::Status MoverProcess::Handle(const mover::ControlMessage& message) {
  if (const auto* request = std::get_if<mover::Connect>(&message)) return BeginConnect(*request);
  if (const auto* failed = std::get_if<mover::Failed>(&message)) {
    spdlog::warn("mover {}: {}", process_.id().pid, failed->reason);
    return absl::UnavailableError(fmt::format("mover: {}{}", failed->reason, WhyNotConnected()));
  }
  if (std::holds_alternative<mover::Ended>(message)) {
    return absl::UnavailableError("the mover has ended");
  }
  const std::lock_guard lock(mutex_);
  if (const auto* counters = std::get_if<mover::Counters>(&message)) {
    counters_ = *counters;
  } else if (const auto* copy = std::get_if<mover::CopyState>(&message)) {
    copy_ = ProgressOf(*copy);
    changed_.notify_all();
  } else if (std::holds_alternative<mover::Established>(message)) {
    established_ = true;
    changed_.notify_all();
  } else if (const auto* offer = std::get_if<mover::Offer>(&message)) {
    offer_ = *offer;
    changed_.notify_all();
  } else {
    return absl::UnavailableError("the mover sent a message that has no place here");
  }
  return absl::OkStatus();
}

absl::Status MoverProcess::BeginConnect(const mover::Connect& request) {
  base::HostPort destination;
  {
    const std::lock_guard lock(mutex_);
    if (destination_.empty() || request.stream > data_streams_) {
      return absl::UnavailableError("the mover asked for a connection");
    }
    // Streams are spread over the addresses; each retry takes the next.
    destination =
        destination_[(std::size_t{request.stream} + request.generation - 1) % destination_.size()];
  }
  // A stream asks again only once it has been answered.
  std::thread& connector = connectors_[request.stream];
  if (connector.joinable()) connector.join();
  connector = std::thread([this, request, to = std::move(destination)] { Connect(request, to); });
  return absl::OkStatus();
}

void MoverProcess::Connect(const mover::Connect& request, const base::HostPort& destination) {
  const absl::StatusOr<base::UniqueFd> connection = base::ConnectTcp(destination, kConnectLimit);
  {
    const std::lock_guard lock(mutex_);
    connecting_ = connection.status();
  }
  // A mover that is gone is found by reading, after its last word.
  if (connection.ok()) {
    static_cast<void>(base::SendMessage(
        control_.get(), mover::EncodeControl(mover::Connection{request.stream, request.generation}),
        {connection->get()}));
  } else {
    spdlog::warn("migration connection: {}", base::MessageOf(connection.status()));
    static_cast<void>(base::SendMessage(
        control_.get(),
        mover::EncodeControl(mover::ConnectionFailed{request.stream, request.generation}), {}));
  }
}

std::string MoverProcess::WhyNotConnected() {
  const std::lock_guard lock(mutex_);
  return connecting_.ok() ? "" : fmt::format(" ({})", base::MessageOf(connecting_));
}

void MoverProcess::SetGone(const absl::Status& why) {
  const std::lock_guard lock(mutex_);
  health_ = why;
  changed_.notify_all();
}

absl::Status MoverProcess::WaitEstablished(base::Duration timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return established_ || !health_.ok(); });
  if (!health_.ok()) return health_;
  return established_ ? absl::OkStatus()
                      : absl::DeadlineExceededError("not all streams are connected");
}

absl::Status MoverProcess::SendToPeer(const migration::PeerMessage& message) {
  return base::SendMessage(peer_.get(), base::AsText(migration::EncodePeerMessage(message)), {});
}

absl::StatusOr<migration::PeerMessage> MoverProcess::ReceiveFromPeer(base::Duration timeout) {
  SEALIFT_RETURN_IF_ERROR(WaitReadable(peer_.get(), timeout));
  SEALIFT_ASSIGN_OR_RETURN(const base::Message message, base::ReceiveMessage(peer_.get()));
  return migration::DecodePeerMessage(base::AsBytes(message.bytes));
}

absl::Status MoverProcess::Health() {
  const std::lock_guard lock(mutex_);
  return health_;
}

absl::Status MoverProcess::BeginCopy(const std::vector<hypervisor::MemoryBlock>& memory,
                                     const hypervisor::WriteTracking& tracking,
                                     std::chrono::milliseconds downtime_limit) {
  std::vector<int> fds = {tracking.pagemap.get(), tracking.userfaultfd.get()};
  for (const hypervisor::MemoryBlock& block : memory) fds.push_back(block.file.get());
  const mover::BeginCopy begin{BlocksOf(memory),
                               static_cast<std::uint32_t>(downtime_limit.count())};
  return base::SendMessage(control_.get(), mover::EncodeControl(begin), fds);
}

absl::Status MoverProcess::FinishCopy() {
  return base::SendMessage(control_.get(), mover::EncodeControl(mover::FinishCopy{}), {});
}

migration::CopyProgress MoverProcess::WaitCopy(const migration::CopyProgress& seen,
                                               base::Duration timeout, std::stop_token stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::move(stop), timeout, [&] {
    return copy_.phase != seen.phase || copy_.round != seen.round || copy_.stalls != seen.stalls ||
           !health_.ok();
  });
  return copy_;
}

std::uint64_t MoverProcess::wire_bytes() {
  const std::lock_guard lock(mutex_);
  return counters_.wire_bytes;
}

}  // namespace sealift::agent
