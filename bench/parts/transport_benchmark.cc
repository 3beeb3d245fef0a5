// The transport without QEMU: from memory to memory over N TCP connections of the loopback
// interface, one pair of threads for each.
//
//   BM_Sockets   send(2) and recv(2) alone: what there is to lose
//   BM_Streams   transport::Stream at both ends, as page streams use it: sealed from where the
//   memory
//                is, opened to where it goes, acknowledged
//   BM_Relays    mover::Relay at both ends, fed and drained through unix sockets as QEMU does
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "base/unique_fd.h"
#include "keys/key_schedule.h"
#include "keys/testing.h"
#include "mover/channel.h"
#include "mover/page_source.h"
#include "mover/relay.h"
#include "record/aead.h"
#include "transport/stream.h"

namespace sealift {
namespace {

using base::Bytes;
using base::ByteSpan;
using base::MutableByteSpan;
using base::UniqueFd;
using keys::Direction;
using keys::Protection;
using record::RecordType;
using transport::Stream;

// Through each connection in one iteration, out of and into memory larger than the caches.
constexpr std::size_t kMemorySize = std::size_t{64} << 20;
constexpr std::size_t kTransfer = 4 * kMemorySize;
constexpr std::size_t kPiece = record::kPreferredPayload;

struct Pair {
  UniqueFd a;
  UniqueFd b;
};

Pair TcpPair() {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  SEALIFT_CHECK(::bind(listener.get(), generic, size) == 0 && ::listen(listener.get(), 1) == 0);
  SEALIFT_CHECK(::getsockname(listener.get(), generic, &size) == 0);
  Pair pair{UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), UniqueFd()};
  SEALIFT_CHECK(::connect(pair.a.get(), generic, size) == 0);
  pair.b.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int on = 1;
  for (const UniqueFd* end : {&pair.a, &pair.b}) {
    SEALIFT_CHECK(::setsockopt(end->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  }
  return pair;
}

Pair UnixPair() {
  std::array<int, 2> fds{};
  SEALIFT_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void SendAll(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    SEALIFT_CHECK(sent > 0);
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

// Waits for bytes; with MSG_DONTWAIT in `flags` it does not, and there may be 0.
std::size_t ReceiveSome(int fd, MutableByteSpan buffer, int flags = 0) {
  const ssize_t received = ::recv(fd, buffer.data(), buffer.size(), flags);
  if (received < 0 && errno == EAGAIN) return 0;
  SEALIFT_CHECK(received > 0);
  return static_cast<std::size_t>(received);
}

// Plain send and receive loops; also what a relay's channels are fed with.
void SendMemory(int fd, ByteSpan memory) {
  for (std::size_t at = 0; at < kTransfer; at += kPiece) {
    SendAll(fd, memory.subspan(at % memory.size(), kPiece));
  }
}

void ReceiveMemory(int fd, MutableByteSpan memory) {
  for (std::size_t at = 0; at < kTransfer;) {
    const std::size_t begin = at % memory.size();
    const std::size_t wanted = std::min({kPiece, memory.size() - begin, kTransfer - at});
    at += ReceiveSome(fd, memory.subspan(begin, wanted));
  }
}

keys::KeySchedule Schedule() {
  keys::testing::CountingRandom random;
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(), keys::SpecHash{})
      .value();
}

// The two ends of one stream. Each has a schedule of its own, as two hosts have.
struct StreamPair {
  explicit StreamPair(Protection protection)
      : source_schedule(Schedule()),
        destination_schedule(Schedule()),
        source(Make(source_schedule, Direction::kToDestination, protection)),
        destination(Make(destination_schedule, Direction::kToSource, protection)) {}

  static Stream Make(const keys::KeySchedule& schedule, Direction sending, Protection protection) {
    return Stream::Create(schedule, {.backend = record::BestBackend().value(),
                                     .stream = 1,
                                     .sending = sending,
                                     .protection = protection,
                                     .payload_size = mover::kPagePayload})
        .value();
  }

  keys::KeySchedule source_schedule;
  keys::KeySchedule destination_schedule;
  Stream source;
  Stream destination;
};

void WriteOutgoing(Stream& stream, int fd) {
  for (ByteSpan out = stream.Outgoing(); !out.empty(); out = stream.Outgoing()) {
    SendAll(fd, out);
    stream.Sent(out.size());
  }
}

// Takes in what has arrived. The payload of each record goes to what `place` returns; `placed` is
// told how long it was.
void ReadIncoming(Stream& stream, int fd, int flags, const std::function<MutableByteSpan()>& place,
                  const std::function<void(std::size_t)>& placed) {
  stream.Received(ReceiveSome(fd, stream.ReceiveBuffer(), flags));
  for (;;) {
    const auto delivery = stream.Next(place()).value();
    if (!delivery.has_value()) return;
    placed(delivery->payload.size());
  }
}

void SendStream(Stream& stream, int fd, ByteSpan memory) {
  const auto read_acknowledgements = [&](int flags) {
    ReadIncoming(
        stream, fd, flags, [] { return MutableByteSpan(); }, [](std::size_t) {});
  };
  for (std::size_t at = 0; at < kTransfer; at += mover::kPagePayload) {
    while (!stream.HasRoom()) read_acknowledgements(0);
    const ByteSpan pages = memory.subspan(at % memory.size(), mover::kPagePayload);
    SEALIFT_CHECK(stream.SendFrom(RecordType::kData, pages).ok());
    WriteOutgoing(stream, fd);
    // Early, as a relay does: records kept for resending cost cache.
    read_acknowledgements(MSG_DONTWAIT);
  }
}

void ReceiveStream(Stream& stream, int fd, MutableByteSpan memory) {
  for (std::size_t at = 0; at < kTransfer;) {
    ReadIncoming(
        stream, fd, 0, [&] { return memory.subspan(at % memory.size()); },
        [&](std::size_t size) { at += size; });
    WriteOutgoing(stream, fd);
  }
}

class Silent final : public mover::RelayEvents {
 public:
  void OnDisconnected(std::uint16_t, std::uint32_t, const std::string&) override {}
  void OnEnded(std::uint16_t) override {}
  void OnFailed(std::uint16_t, const absl::Status&) override {}
};

// ---- Connections that can be driven by a pair of threads

struct SocketConnection {
  explicit SocketConnection(Protection /*protection*/) : wire(TcpPair()) {}
  void Send(ByteSpan memory) { SendMemory(wire.a.get(), memory); }
  void Receive(MutableByteSpan memory) { ReceiveMemory(wire.b.get(), memory); }

  Pair wire;
};

struct StreamConnection {
  explicit StreamConnection(Protection protection) : streams(protection), wire(TcpPair()) {
    SEALIFT_CHECK(streams.source.Attach(1, 0).ok() && streams.destination.Attach(1, 0).ok());
  }
  void Send(ByteSpan memory) { SendStream(streams.source, wire.a.get(), memory); }
  void Receive(MutableByteSpan memory) { ReceiveStream(streams.destination, wire.b.get(), memory); }

  StreamPair streams;
  Pair wire;
};

struct RelayConnection {
  explicit RelayConnection(Protection protection)
      : streams(protection),
        in(UnixPair()),
        out(UnixPair()),
        source(1, std::move(streams.source), events),
        destination(1, std::move(streams.destination), events) {
    Pair wire = TcpPair();
    source.SetChannel(Channel(std::move(in.b)));
    destination.SetChannel(Channel(std::move(out.b)));
    SEALIFT_CHECK(source.SetConnection(std::move(wire.a), 1, 0).ok());
    SEALIFT_CHECK(destination.SetConnection(std::move(wire.b), 1, 0).ok());
  }
  static std::unique_ptr<mover::Channel> Channel(UniqueFd socket) {
    return std::make_unique<mover::SocketChannel>(std::move(socket), mover::ChannelKind::kBytes);
  }
  void Send(ByteSpan memory) { SendMemory(in.a.get(), memory); }
  void Receive(MutableByteSpan memory) { ReceiveMemory(out.a.get(), memory); }

  StreamPair streams;
  Silent events;
  Pair in;
  Pair out;
  mover::Relay source;
  mover::Relay destination;
};

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// One connection between two pieces of memory.
template <typename Connection>
class Lane {
 public:
  explicit Lane(Protection protection)
      : connection_(std::make_unique<Connection>(protection)),
        from_(kMemorySize, std::byte{0x5a}),
        to_(kMemorySize) {}

  void Start(std::vector<std::thread>& threads) {
    threads.emplace_back([this] { connection_->Send(from_); });
    threads.emplace_back([this] { connection_->Receive(to_); });
  }

 private:
  std::unique_ptr<Connection> connection_;
  Bytes from_;
  Bytes to_;
};

template <typename Connection>
void Run(benchmark::State& state, Protection protection) {
  std::vector<Lane<Connection>> lanes;
  for (std::int64_t i = 0; i < state.range(0); ++i) lanes.emplace_back(protection);
  const double cpu_before = CpuSeconds();
  for ([[maybe_unused]] auto _ : state) {
    std::vector<std::thread> threads;
    for (Lane<Connection>& lane : lanes) lane.Start(threads);
    for (std::thread& thread : threads) thread.join();
  }
  const std::int64_t bytes =
      state.iterations() * state.range(0) * static_cast<std::int64_t>(kTransfer);
  state.SetBytesProcessed(bytes);
  state.counters["cpu_s_per_gb"] = (CpuSeconds() - cpu_before) / (static_cast<double>(bytes) / 1e9);
}

void BM_Sockets(benchmark::State& state) { Run<SocketConnection>(state, Protection::kPlain); }
void BM_Streams(benchmark::State& state, Protection protection) {
  Run<StreamConnection>(state, protection);
}
void BM_Relays(benchmark::State& state, Protection protection) {
  Run<RelayConnection>(state, protection);
}

void Connections(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("connections")
      ->Arg(1)
      ->Arg(2)
      ->Arg(4)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

BENCHMARK(BM_Sockets)->Apply(Connections);
BENCHMARK_CAPTURE(BM_Streams, sealed, Protection::kSealed)->Apply(Connections);
BENCHMARK_CAPTURE(BM_Streams, plain, Protection::kPlain)->Apply(Connections);
BENCHMARK_CAPTURE(BM_Relays, sealed, Protection::kSealed)->Apply(Connections);
BENCHMARK_CAPTURE(BM_Relays, plain, Protection::kPlain)->Apply(Connections);

}  // namespace
}  // namespace sealift
