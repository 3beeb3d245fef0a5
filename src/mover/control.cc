#include "mover/control.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/status.h"
#include "base/utf8.h"

namespace sealift::mover {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxText = 4096;
constexpr std::size_t kMaxRamBlocks = 16;

// Reads the fields of one JSON object; remembers the first thing that is wrong, and that nothing
// was left over.
class Fields {
 public:
  // `known` is a field that was read already.
  Fields(const json& object, const char* known) : object_(object) { read_.insert(known); }

  template <typename T>
  T Unsigned(const char* name) {
    const json* value = Find(name);
    if (value == nullptr || !value->is_number_unsigned() ||
        value->get<std::uint64_t>() > std::numeric_limits<T>::max()) {
      return Bad<T>();
    }
    return value->get<T>();
  }

  std::string Text(const char* name) {
    const json* value = Find(name);
    if (value == nullptr || !value->is_string()) return Bad<std::string>();
    auto text = value->get<std::string>();
    return text.size() > kMaxText ? Bad<std::string>() : text;
  }

  base::Bytes Bytes(const char* name) {
    absl::StatusOr<base::Bytes> bytes = base::FromHex(Text(name));
    return bytes.ok() ? *std::move(bytes) : Bad<base::Bytes>();
  }

  // An enum whose valid values are 1..last.
  template <typename E>
  E Enum(const char* name, E last) {
    const auto value = Unsigned<std::uint8_t>(name);
    if (value == 0 || value > static_cast<std::uint8_t>(last)) return Bad<E>();
    return static_cast<E>(value);
  }

  std::vector<RamBlock> Blocks(const char* name) {
    const json* value = Find(name);
    if (value == nullptr || !value->is_array() || value->size() > kMaxRamBlocks) {
      return Bad<std::vector<RamBlock>>();
    }
    std::vector<RamBlock> blocks;
    for (const json& entry : *value) {
      if (!entry.is_object()) return Bad<std::vector<RamBlock>>();
      Fields fields(entry, "size");
      const auto size = fields.Unsigned<std::uint64_t>("size");
      blocks.push_back({size, fields.Unsigned<std::uint64_t>("address")});
      Require(fields.Complete());
    }
    return blocks;
  }

  void Require(bool condition) { good_ = good_ && condition; }

  [[nodiscard]] bool Complete() const { return good_ && read_.size() == object_.size(); }

 private:
  const json* Find(const char* name) {
    read_.insert(name);
    const auto found = object_.find(name);
    return found == object_.end() ? nullptr : &*found;
  }
  template <typename T>
  T Bad() {
    good_ = false;
    return T{};
  }

  const json& object_;
  std::set<std::string> read_;
  bool good_ = true;
};

struct Encoder {
  json operator()(const Offer& m) const {
    return {{"type", "offer"},
            {"public_key", base::ToHex(m.public_key)},
            {"aead_backend", m.aead_backend}};
  }
  json operator()(const Start& m) const {
    return {{"type", "start"},
            {"role", static_cast<unsigned>(m.role)},
            {"id", base::ToHex(m.spec.id)},
            {"vm", m.spec.vm},
            {"source", m.spec.source},
            {"destination", m.spec.destination},
            {"protection", static_cast<unsigned>(m.spec.protection)},
            {"engine", static_cast<unsigned>(m.spec.engine)},
            {"streams", m.spec.streams},
            {"sealed_key", base::ToHex(m.sealed_key)},
            {"blocks", Blocks(m.blocks)},
            {"reconnect_seconds", m.reconnect_seconds}};
  }
  json operator()(const BeginCopy& m) const {
    return {{"type", "begin_copy"},
            {"blocks", Blocks(m.blocks)},
            {"downtime_limit_ms", m.downtime_limit_ms}};
  }
  json operator()(const FinishCopy& /*m*/) const { return {{"type", "finish_copy"}}; }
  json operator()(const CopyState& m) const {
    return {{"type", "copy_state"},
            {"phase", static_cast<unsigned>(m.phase)},
            {"round", m.round},
            {"stalls", m.stalls},
            {"total_bytes", m.total_bytes},
            {"copied_bytes", m.copied_bytes},
            {"remaining_bytes", m.remaining_bytes},
            {"dirty_bytes_per_second", m.dirty_bytes_per_second}};
  }
  json operator()(const Connect& m) const { return ForStream("connect", m.stream, m.generation); }
  json operator()(const Connection& m) const {
    return ForStream("connection", m.stream, m.generation);
  }
  json operator()(const ConnectionFailed& m) const {
    return ForStream("connection_failed", m.stream, m.generation);
  }
  json operator()(const Established& /*m*/) const { return {{"type", "established"}}; }
  json operator()(const Counters& m) const {
    return {{"type", "counters"}, {"wire_bytes", m.wire_bytes}, {"payload_bytes", m.payload_bytes}};
  }
  json operator()(const Ended& /*m*/) const { return {{"type", "ended"}}; }
  json operator()(const Failed& m) const {
    return {{"type", "failed"}, {"reason", base::MakeUtf8(m.reason, kMaxText)}};
  }

  static json Blocks(const std::vector<RamBlock>& blocks) {
    json list = json::array();
    for (const RamBlock& block : blocks) {
      list.push_back({{"size", block.size}, {"address", block.address}});
    }
    return list;
  }

  static json ForStream(const char* type, std::uint16_t stream, std::uint32_t generation) {
    return {{"type", type}, {"stream", stream}, {"generation", generation}};
  }
};

Start DecodeStart(Fields& fields) {
  Start m;
  m.role = fields.Enum("role", Role::kDestination);
  const base::Bytes id = fields.Bytes("id");
  fields.Require(id.size() == m.spec.id.size());
  std::copy_n(id.begin(), std::min(id.size(), m.spec.id.size()), m.spec.id.begin());
  m.spec.vm = fields.Text("vm");
  m.spec.source = fields.Text("source");
  m.spec.destination = fields.Text("destination");
  m.spec.protection = fields.Enum("protection", keys::Protection::kPlain);
  m.spec.engine = fields.Enum("engine", keys::Engine::kDirect);
  m.spec.streams = fields.Unsigned<std::uint16_t>("streams");
  m.sealed_key = fields.Bytes("sealed_key");
  m.blocks = fields.Blocks("blocks");
  m.reconnect_seconds = fields.Unsigned<std::uint32_t>("reconnect_seconds");
  return m;
}

CopyState DecodeCopyState(Fields& fields) {
  CopyState m;
  m.phase = fields.Enum("phase", CopyPhase::kFinished);
  m.round = fields.Unsigned<std::uint32_t>("round");
  m.stalls = fields.Unsigned<std::uint32_t>("stalls");
  m.total_bytes = fields.Unsigned<std::uint64_t>("total_bytes");
  m.copied_bytes = fields.Unsigned<std::uint64_t>("copied_bytes");
  m.remaining_bytes = fields.Unsigned<std::uint64_t>("remaining_bytes");
  m.dirty_bytes_per_second = fields.Unsigned<std::uint64_t>("dirty_bytes_per_second");
  return m;
}

template <typename T>
T DecodeForStream(Fields& fields) {
  T m;
  m.stream = fields.Unsigned<std::uint16_t>("stream");
  m.generation = fields.Unsigned<std::uint32_t>("generation");
  return m;
}

std::optional<ControlMessage> DecodeFields(const std::string& type, Fields& fields) {
  if (type == "offer") return Offer{fields.Bytes("public_key"), fields.Text("aead_backend")};
  if (type == "start") return DecodeStart(fields);
  if (type == "connect") return DecodeForStream<Connect>(fields);
  if (type == "connection") return DecodeForStream<Connection>(fields);
  if (type == "connection_failed") return DecodeForStream<ConnectionFailed>(fields);
  if (type == "established") return Established{};
  if (type == "begin_copy") {
    std::vector<RamBlock> blocks = fields.Blocks("blocks");
    return BeginCopy{std::move(blocks), fields.Unsigned<std::uint32_t>("downtime_limit_ms")};
  }
  if (type == "finish_copy") return FinishCopy{};
  if (type == "copy_state") return DecodeCopyState(fields);
  if (type == "counters") {
    const auto wire = fields.Unsigned<std::uint64_t>("wire_bytes");
    return Counters{wire, fields.Unsigned<std::uint64_t>("payload_bytes")};
  }
  if (type == "ended") return Ended{};
  if (type == "failed") return Failed{fields.Text("reason")};
  return std::nullopt;
}

}  // namespace

std::string EncodeControl(const ControlMessage& message) {
  // Text of another program may hold bytes that are no UTF-8: replace them rather than throw.
  return std::visit(Encoder{}, message).dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<ControlMessage> DecodeControl(std::string_view bytes) {
  const absl::Status bad = absl::InvalidArgumentError("malformed message between agent and mover");
  const json object = json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return bad;
  const auto type = object.find("type");
  if (type == object.end() || !type->is_string()) return bad;
  Fields fields(object, "type");
  std::optional<ControlMessage> message = DecodeFields(type->get<std::string>(), fields);
  if (!message || !fields.Complete()) return bad;
  return *std::move(message);
}

}  // namespace sealift::mover
