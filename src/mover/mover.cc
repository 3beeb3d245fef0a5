#include "mover/mover.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "base/backoff.h"
#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "mover/channel.h"
#include "mover/page_sink.h"
#include "record/aead.h"
#include "record/record_format.h"

namespace sealift::mover {
namespace {

using std::chrono::steady_clock;

constexpr int kTickMs = 100;

// A peer that has answered nothing for this long is not there, with data under way or without.
constexpr int kSilenceSeconds = 5;
constexpr int kProbeAfterSeconds = 2;
constexpr int kProbeEverySeconds = 1;

// Descriptors of a Start besides the control channel and what is listened on.
std::size_t Others(const Start& start) {
  return start.role == Role::kSource ? 0 : QemuChannels(start.spec) + start.blocks.size();
}

void SetUpConnection(int connection) {
  const auto set = [connection](int level, int option, int value) {
    setsockopt(connection, level, option, &value, sizeof value);
  };
  // Records are written whole; a small one, such as an acknowledgement, must not wait for more.
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kProbeAfterSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kProbeEverySeconds);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, kSilenceSeconds * 1000);
}

}  // namespace

Mover::Mover(base::UniqueFd agent, record::AeadBackend backend, keys::RandomSource& random,
             const base::Clock& clock)
    : agent_(std::move(agent)),
      backend_(backend),
      random_(random),
      clock_(clock),
      jitter_(static_cast<unsigned>(steady_clock::now().time_since_epoch().count())),
      next_counters_(steady_clock::now()),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  SEALIFT_CHECK(wake_.valid());
  fcntl(agent_.get(), F_SETFL, fcntl(agent_.get(), F_GETFL) | O_NONBLOCK);
}

Mover::~Mover() { Forget(); }

void Mover::Forget() {
  // Relays use the key schedule and report here: they go first.
  streams_.clear();
  direct_source_.reset();
  handshakes_.clear();
  schedule_.reset();
  receiver_.reset();
}

absl::Status Mover::Run() {
  absl::Status status = Offer();
  if (status.ok()) status = Loop();
  Forget();
  // The last word waits for an agent that does not read: nothing else is left to be done.
  fcntl(agent_.get(), F_SETFL, fcntl(agent_.get(), F_GETFL) & ~O_NONBLOCK);
  const absl::Status told = status.ok() ? Tell(Ended{}) : Tell(Failed{base::MessageOf(status)});
  return status.ok() ? told : status;
}

absl::Status Mover::Offer() {
  SEALIFT_ASSIGN_OR_RETURN(receiver_, keys::HpkeReceiver::Generate());
  offered_at_ = clock_.SinceBoot();
  return Tell(mover::Offer{receiver_->PublicKey(), std::string(record::AeadBackendName(backend_))});
}

absl::Status Mover::Tell(const ControlMessage& message) const {
  return base::SendMessage(agent_.get(), EncodeControl(message), {});
}

absl::Status Mover::Loop() {
  while (!start_ || !AllEnded()) {
    if (!start_) SEALIFT_RETURN_IF_ERROR(CheckKeyPairLifetime());
    SEALIFT_RETURN_IF_ERROR(PollOnce());
    SEALIFT_RETURN_IF_ERROR(HandleRelayEvents());
    SEALIFT_RETURN_IF_ERROR(ReportCopy());
    if (start_) SEALIFT_RETURN_IF_ERROR(OnTimer());
  }
  return absl::OkStatus();
}

absl::Status Mover::CheckKeyPairLifetime() const {
  if (clock_.SinceBoot() - offered_at_ <= kKeyPairLifetime) return absl::OkStatus();
  return absl::DeadlineExceededError(fmt::format(
      "no migration was started within {} s: the key pair is void", kKeyPairLifetime.count()));
}

bool Mover::AllEnded() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const StreamState& stream) {
    return std::holds_alternative<Finished>(stream.link);
  });
}

absl::Status Mover::PollOnce() {
  std::vector<pollfd> fds = {
      {agent_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}, {channel_listener_.get(), POLLIN, 0}};
  const std::size_t listeners = fds.size();
  for (const base::UniqueFd& listener : network_listeners_)
    fds.push_back({listener.get(), POLLIN, 0});
  const std::size_t fixed = fds.size();
  for (const Handshake& handshake : handshakes_) fds.push_back({handshake.fd(), POLLIN, 0});
  poll(fds.data(), fds.size(), kTickMs);
  std::size_t at = fixed;
  for (auto next = handshakes_.begin(); next != handshakes_.end() && at < fds.size(); ++at) {
    const auto handshake = next++;
    if (fds[at].revents != 0) AdvanceHandshake(handshake);
  }
  if (fds[2].revents != 0) OnChannelConnected();
  for (std::size_t i = 0; i < network_listeners_.size(); ++i) {
    if (fds[listeners + i].revents != 0) OnNetworkConnected(network_listeners_[i]);
  }
  if (fds[0].revents != 0) return OnAgentMessage();
  return absl::OkStatus();
}

absl::Status Mover::OnAgentMessage() {
  SEALIFT_ASSIGN_OR_RETURN(base::Message message, base::ReceiveMessage(agent_.get()));
  SEALIFT_ASSIGN_OR_RETURN(const ControlMessage control, DecodeControl(message.bytes));
  if (const auto* start = std::get_if<Start>(&control))
    return OnStart(*start, std::move(message.fds));
  if (start_) return OnAnswer(control, std::move(message.fds));
  return absl::InvalidArgumentError("message has no place here");
}

absl::Status Mover::OnAnswer(const ControlMessage& answer, std::vector<base::UniqueFd> fds) {
  if (const auto* connection = std::get_if<Connection>(&answer)) {
    if (fds.size() != 1) return absl::InvalidArgumentError("connection without a socket");
    return OnConnection(*connection, std::move(fds[0]));
  }
  if (const auto* failed = std::get_if<ConnectionFailed>(&answer)) {
    if (Awaited(failed->stream, failed->generation)) Lose(streams_[failed->stream]);
    return absl::OkStatus();
  }
  if (const auto* begin = std::get_if<BeginCopy>(&answer)) {
    return OnBeginCopy(*begin, std::move(fds));
  }
  if (std::holds_alternative<FinishCopy>(answer)) return OnFinishCopy();
  return absl::InvalidArgumentError("message has no place here");
}

bool Mover::Awaited(std::uint16_t stream, std::uint32_t generation) const {
  return stream < streams_.size() && streams_[stream].generation == generation &&
         std::holds_alternative<Joining>(streams_[stream].link);
}

absl::Status Mover::CheckStart(const Start& start, std::size_t fds) const {
  if (start_) return absl::FailedPreconditionError("started twice");
  SEALIFT_RETURN_IF_ERROR(CheckKeyPairLifetime());
  SEALIFT_RETURN_IF_ERROR(keys::ValidateSpec(start.spec));
  if (start.spec.streams > kMaxDataStreams) return absl::InvalidArgumentError("too many streams");
  const bool takes_pages =
      start.role == Role::kDestination && start.spec.engine == keys::Engine::kDirect;
  if (takes_pages == start.blocks.empty()) {
    return absl::InvalidArgumentError("guest memory does not fit the engine and the role");
  }
  const std::size_t fewest = 1 + Others(start) + 1;
  const std::size_t most = 1 + Others(start) + (start.role == Role::kSource ? 1 : kMaxListeners);
  if (fds < fewest || fds > most) return absl::InvalidArgumentError("wrong number of descriptors");
  return absl::OkStatus();
}

absl::Status Mover::OnStart(const Start& start, std::vector<base::UniqueFd> fds) {
  SEALIFT_RETURN_IF_ERROR(CheckStart(start, fds.size()));
  const keys::SpecHash spec_hash = keys::HashSpec(start.spec);
  keys::MigrationKey key;
  SEALIFT_ASSIGN_OR_RETURN(key.bytes, receiver_->Open(start.sealed_key, spec_hash));
  if (key.bytes.size() != keys::kMigrationKeySize + keys::kMigrationNonceSize) {
    return absl::InvalidArgumentError("the migration key has the wrong size");
  }
  SEALIFT_ASSIGN_OR_RETURN(schedule_, keys::KeySchedule::Create(std::move(key), spec_hash));
  start_ = start;
  SEALIFT_RETURN_IF_ERROR(MakeRelays());
  return SetChannels(std::move(fds));
}

absl::Status Mover::MakeRelays() {
  const Time now = steady_clock::now();
  RelayEvents& events = *this;
  streams_.resize(std::size_t{1} + start_->spec.streams);
  for (std::uint16_t i = 0; i <= start_->spec.streams; ++i) {
    const bool pages = i > QemuChannels(start_->spec);
    const transport::StreamOptions options{
        .backend = backend_,
        .stream = i,
        .sending = source() ? keys::Direction::kToDestination : keys::Direction::kToSource,
        .protection = start_->spec.protection,
        .payload_size = pages ? kPagePayload : record::kPreferredPayload};
    SEALIFT_ASSIGN_OR_RETURN(transport::Stream stream,
                             transport::Stream::Create(*schedule_, options));
    streams_[i].relay = std::make_unique<Relay>(i, std::move(stream), events);
    streams_[i].link = Lost{now, now};
  }
  return absl::OkStatus();
}

absl::Status Mover::SetChannels(std::vector<base::UniqueFd> fds) {
  const auto socket = [](base::UniqueFd fd, ChannelKind kind) {
    return std::make_unique<SocketChannel>(std::move(fd), kind);
  };
  streams_[0].relay->SetChannel(socket(std::move(fds[0]), ChannelKind::kMessages));
  if (source()) {
    channel_listener_ = std::move(fds[1]);
    return absl::OkStatus();
  }
  const std::size_t listeners = fds.size() - 1 - Others(*start_);
  auto next = std::next(fds.begin());
  for (std::size_t i = 0; i < listeners; ++i) network_listeners_.push_back(std::move(*next++));
  for (std::size_t i = 1; i <= QemuChannels(start_->spec); ++i) {
    streams_[i].relay->SetChannel(socket(std::move(*next++), ChannelKind::kBytes));
  }
  fds.erase(fds.begin(), next);
  return SetPageSinks(std::move(fds));
}

absl::Status Mover::SetPageSinks(std::vector<base::UniqueFd> files) {
  for (std::size_t i = 0; i < files.size(); ++i) {
    SEALIFT_ASSIGN_OR_RETURN(
        GuestMemory memory,
        GuestMemory::Map(std::move(files[i]), start_->blocks[i].size, MemoryAccess::kWrite));
    destination_memory_.push_back(std::move(memory));
  }
  for (std::size_t i = 1U + QemuChannels(start_->spec); i < streams_.size(); ++i) {
    streams_[i].relay->SetChannel(std::make_unique<PageSink>(destination_memory_));
  }
  return absl::OkStatus();
}

absl::Status Mover::OnBeginCopy(const BeginCopy& begin, std::vector<base::UniqueFd> fds) {
  if (!source() || start_->spec.engine != keys::Engine::kDirect || direct_source_ != nullptr) {
    return absl::FailedPreconditionError("there is no direct copy to begin");
  }
  const std::uint16_t first = QemuChannels(start_->spec) + 1;
  SEALIFT_ASSIGN_OR_RETURN(direct_source_,
                           DirectSource::Create(begin, std::move(fds), streams_.size() - first));
  CopyEvents& events = *this;
  for (std::uint16_t i = first; i < streams_.size(); ++i) {
    streams_[i].relay->SetChannel(
        direct_source_->MakeChannel(i, static_cast<std::size_t>(i - first), events));
  }
  if (direct_source_->Begin(clock_.SinceBoot())) WakePageStreams();
  return absl::OkStatus();
}

absl::Status Mover::OnFinishCopy() {
  if (direct_source_ == nullptr) {
    return absl::FailedPreconditionError("there is no direct copy to finish");
  }
  if (direct_source_->Finish(clock_.SinceBoot())) WakePageStreams();
  return absl::OkStatus();
}

void Mover::WakePageStreams() {
  for (std::size_t i = 1U + QemuChannels(start_->spec); i < streams_.size(); ++i) {
    streams_[i].relay->Wake();
  }
}

// QEMU connects the main channel first, then the multifd channels in any order: the number is the
// order of arrival.
void Mover::OnChannelConnected() {
  base::UniqueFd channel(accept4(channel_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!channel.valid()) return;
  ++channels_accepted_;
  streams_[channels_accepted_].relay->SetChannel(
      std::make_unique<SocketChannel>(std::move(channel), ChannelKind::kBytes));
  if (channels_accepted_ == QemuChannels(start_->spec)) channel_listener_.reset();
}

void Mover::OnNetworkConnected(const base::UniqueFd& listener) {
  base::UniqueFd connection(
      accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection.valid()) return;
  SetUpConnection(connection.get());
  if (handshakes_.size() >= kMaxHandshakes) DropAnyHandshake();
  handshakes_.push_back(Handshake::Accept(std::move(connection)));
}

// Any, not the oldest: whoever floods the port cannot choose to push out an honest hello.
void Mover::DropAnyHandshake() {
  std::array<std::byte, 1> random{};
  const bool drawn = random_.Fill(random).ok();
  const std::size_t at =
      drawn ? std::to_integer<std::size_t>(random[0]) % handshakes_.size() : std::size_t{0};
  handshakes_.erase(std::next(handshakes_.begin(), static_cast<std::ptrdiff_t>(at)));
}

absl::Status Mover::OnConnection(const Connection& message, base::UniqueFd connection) {
  if (!Awaited(message.stream, message.generation)) return absl::OkStatus();
  StreamState& stream = streams_[message.stream];
  SetUpConnection(connection.get());
  const transport::HelloOpen open{start_->spec.id, message.stream, message.generation};
  SEALIFT_ASSIGN_OR_RETURN(
      auto hello,
      transport::HelloConnector::Create(*schedule_, random_, open, stream.relay->StopReceiving()));
  absl::StatusOr<Handshake> handshake =
      Handshake::Connect(std::move(connection), std::move(hello), open);
  if (handshake.ok()) {
    handshakes_.push_back(*std::move(handshake));
  } else {
    Lose(stream);
  }
  return absl::OkStatus();
}

absl::Status Mover::Admit(const transport::HelloOpen& open) const {
  if (open.id == start_->spec.id && open.stream < streams_.size() &&
      open.generation > streams_[open.stream].generation) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError("bad hello");
}

std::uint64_t Mover::StopReceiving(std::uint16_t stream) {
  Lose(streams_[stream]);
  return streams_[stream].relay->StopReceiving();
}

void Mover::AdvanceHandshake(std::list<Handshake>::iterator handshake) {
  const absl::StatusOr<bool> done = handshake->Advance(*schedule_, random_, *this);
  if (done.ok() && !*done) return;
  if (done.ok()) {
    Join(std::move(*handshake));
  } else if (handshake->connecting()) {
    spdlog::info("stream {}: hello failed: {}", handshake->open().stream,
                 base::MessageOf(done.status()));
    Lose(streams_[handshake->open().stream]);
  } else {
    spdlog::debug("a stranger's hello was refused");
  }
  handshakes_.erase(handshake);
}

void Mover::Join(Handshake handshake) {
  StreamState& stream = streams_[handshake.open().stream];
  stream.generation = handshake.open().generation;
  const absl::Status joined = stream.relay->SetConnection(
      handshake.TakeConnection(), stream.generation, handshake.peer_next_expected());
  if (!joined.ok()) {
    spdlog::warn("stream {}: connection refused: {}", handshake.open().stream,
                 base::MessageOf(joined));
    Lose(stream);
  } else if (!std::holds_alternative<Finished>(stream.link)) {
    stream.link = Joined{};
  }
}

std::optional<Mover::Time> Mover::LostSince(const Link& link) {
  if (const auto* lost = std::get_if<Lost>(&link)) return lost->since;
  if (const auto* joining = std::get_if<Joining>(&link)) return joining->since;
  return std::nullopt;
}

void Mover::Lose(StreamState& stream) {
  if (std::holds_alternative<Finished>(stream.link)) return;
  const Time now = steady_clock::now();
  stream.link =
      Lost{LostSince(stream.link).value_or(now), now + base::Jittered(kConnectBackoff, jitter_)};
}

absl::Status Mover::HandleRelayEvents() {
  std::vector<RelayEvent> events;
  {
    const std::lock_guard lock(events_mutex_);
    eventfd_t ignored = 0;
    eventfd_read(wake_.get(), &ignored);
    events.swap(events_);
  }
  for (const RelayEvent& event : events) {
    StreamState& stream = streams_[event.stream];
    switch (event.kind) {
      case RelayEvent::Kind::kFailed:
        return absl::AbortedError(fmt::format("stream {}: {}", event.stream, event.why));
      case RelayEvent::Kind::kEnded:
        stream.link = Finished{};
        break;
      case RelayEvent::Kind::kDisconnected:
        // The next connection may have come before the news that the last one is lost.
        if (event.number != stream.generation) break;
        spdlog::info("stream {}: connection lost: {}", event.stream, event.why);
        Lose(stream);
        break;
      case RelayEvent::Kind::kApplied:
        if (direct_source_->OnApplied(event.number, clock_.SinceBoot())) WakePageStreams();
        break;
    }
  }
  return absl::OkStatus();
}

absl::Status Mover::OnTimer() {
  const Time now = steady_clock::now();
  for (auto next = handshakes_.begin(); next != handshakes_.end();) {
    const auto handshake = next++;
    if (now - handshake->started() < kHandshakeTimeout) continue;
    if (handshake->connecting()) Lose(streams_[handshake->open().stream]);
    handshakes_.erase(handshake);
  }
  SEALIFT_RETURN_IF_ERROR(CheckStreams(now));
  SEALIFT_RETURN_IF_ERROR(ReportEstablished());
  if (direct_source_ != nullptr && direct_source_->Tick(clock_.SinceBoot())) WakePageStreams();
  if (now < next_counters_) return absl::OkStatus();
  next_counters_ = now + kCountersEvery;
  told_copy_.round = 0;  // tells it again
  Counters counters;
  for (const StreamState& stream : streams_) {
    counters.wire_bytes += stream.relay->wire_bytes();
    counters.payload_bytes += stream.relay->payload_bytes();
  }
  // The next ones replace these.
  const absl::Status told = Tell(counters);
  return absl::IsResourceExhausted(told) ? absl::OkStatus() : told;
}

absl::Status Mover::CheckStreams(Time now) {
  for (std::uint16_t i = 0; i <= start_->spec.streams; ++i) {
    StreamState& stream = streams_[i];
    const std::optional<Time> since = LostSince(stream.link);
    if (since && now - *since > std::chrono::seconds(start_->reconnect_seconds)) {
      return absl::UnavailableError(
          fmt::format("stream {} had no connection for {} s", i, start_->reconnect_seconds));
    }
    const auto* lost = std::get_if<Lost>(&stream.link);
    if (!source() || lost == nullptr || now < lost->next_try) continue;
    // The generation is claimed before the connection exists: it is never used twice.
    const absl::Status asked = Tell(Connect{i, ++stream.generation});
    if (absl::IsResourceExhausted(asked)) {
      Lose(stream);  // tries again
      continue;
    }
    SEALIFT_RETURN_IF_ERROR(asked);
    stream.link = Joining{lost->since};
  }
  return absl::OkStatus();
}

absl::Status Mover::ReportEstablished() {
  if (established_ || std::any_of(streams_.begin(), streams_.end(), [](const StreamState& stream) {
        return LostSince(stream.link).has_value();
      })) {
    return absl::OkStatus();
  }
  const absl::Status told = Tell(Established{});
  established_ = told.ok();
  return absl::IsResourceExhausted(told) ? absl::OkStatus() : told;  // tries again
}

absl::Status Mover::ReportCopy() {
  if (direct_source_ == nullptr) return absl::OkStatus();
  const CopyState state = direct_source_->State();
  if (state.phase == told_copy_.phase && state.round == told_copy_.round &&
      state.stalls == told_copy_.stalls) {
    return absl::OkStatus();
  }
  const absl::Status told = Tell(state);
  if (absl::IsResourceExhausted(told)) return absl::OkStatus();  // tries again
  told_copy_ = state;
  return told;
}

void Mover::OnDisconnected(std::uint16_t stream, std::uint32_t generation, const std::string& why) {
  Post({stream, RelayEvent::Kind::kDisconnected, why, generation});
}

void Mover::OnEnded(std::uint16_t stream) { Post({stream, RelayEvent::Kind::kEnded, {}}); }

void Mover::OnFailed(std::uint16_t stream, const absl::Status& why) {
  Post({stream, RelayEvent::Kind::kFailed, base::MessageOf(why)});
}

void Mover::OnApplied(std::uint16_t stream, std::uint32_t round) {
  Post({stream, RelayEvent::Kind::kApplied, {}, round});
}

void Mover::Post(RelayEvent event) {
  const std::lock_guard lock(events_mutex_);
  events_.push_back(std::move(event));
  eventfd_write(wake_.get(), 1);
}

}  // namespace sealift::mover
