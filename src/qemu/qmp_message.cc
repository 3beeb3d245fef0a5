#include "qemu/qmp_message.h"

#include <fmt/format.h>

#include <utility>

#include "base/status.h"

namespace sealift::qemu {
namespace {

using nlohmann::json;

absl::StatusOr<json> ParseBounded(std::string_view line) {
  bool too_deep = false;
  const auto watch_depth = [&](int depth, json::parse_event_t, json&) {
    too_deep = too_deep || depth > kMaxQmpDepth;
    return !too_deep;
  };
  json value = json::parse(line, watch_depth, /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError("QMP: nested too deeply");
  if (!value.is_object()) return absl::InvalidArgumentError("QMP: not a JSON object");
  return value;
}

unsigned NumberAt(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<unsigned>() : 0;
}

// An object member, null when it is missing or no object.
const json& ObjectAt(const json& object, const char* key) {
  static const json kNone;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_object() ? *found : kNone;
}

std::optional<std::uint64_t> IdOf(const json& message) {
  const auto id = message.find("id");
  if (id == message.end() || !id->is_number_unsigned()) return std::nullopt;
  return id->get<std::uint64_t>();
}

absl::StatusOr<QmpMessage> ReadGreeting(const json& message) {
  const json& version = ObjectAt(ObjectAt(message, "QMP"), "version");
  const json& numbers = ObjectAt(version, "qemu");
  if (!numbers.is_object()) return absl::InvalidArgumentError("QMP: greeting without a version");
  return QmpGreeting{fmt::format("{}.{}.{}", NumberAt(numbers, "major"), NumberAt(numbers, "minor"),
                                 NumberAt(numbers, "micro"))};
}

absl::StatusOr<QmpMessage> ReadReturn(json& message) {
  const std::optional<std::uint64_t> id = IdOf(message);
  if (!id.has_value()) return absl::InvalidArgumentError("QMP: reply without an id");
  return QmpReturn{*id, std::move(message["return"])};
}

absl::StatusOr<QmpMessage> ReadError(const json& message) {
  const json& error = ObjectAt(message, "error");
  if (!error.is_object()) return absl::InvalidArgumentError("QMP: error that is no object");
  return QmpError{IdOf(message), TextAt(error, "class"), TextAt(error, "desc")};
}

absl::StatusOr<QmpMessage> ReadEvent(json& message) {
  std::string name = TextAt(message, "event");
  if (name.empty()) return absl::InvalidArgumentError("QMP: event without a name");
  return QmpEvent{std::move(name), message.contains("data") ? std::move(message["data"]) : json()};
}

}  // namespace

std::string TextAt(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

absl::StatusOr<QmpMessage> ParseQmpMessage(std::string_view line) {
  SEALIFT_ASSIGN_OR_RETURN(json message, ParseBounded(line));
  if (message.contains("event")) return ReadEvent(message);
  if (message.contains("return")) return ReadReturn(message);
  if (message.contains("error")) return ReadError(message);
  if (message.contains("QMP")) return ReadGreeting(message);
  return absl::InvalidArgumentError("QMP: neither greeting, reply, error nor event");
}

std::string FormatQmpRequest(std::string_view command, const nlohmann::json& arguments,
                             std::uint64_t id) {
  json request = {{"execute", command}, {"id", id}};
  if (!arguments.is_null()) request["arguments"] = arguments;
  return request.dump() + "\n";
}

absl::Status StatusOfQmpError(std::string_view command, const QmpError& error) {
  const std::string text = fmt::format("QEMU refused {}: {}", command, error.description);
  return error.error_class == "CommandNotFound" ? absl::UnimplementedError(text)
                                                : absl::FailedPreconditionError(text);
}

absl::Status LineSplitter::Append(std::string_view bytes) {
  buffer_.append(bytes);
  if (buffer_.size() > kMaxQmpLine && buffer_.find('\n', searched_) > kMaxQmpLine) {
    return absl::ResourceExhaustedError(
        fmt::format("QMP: a line is longer than {} bytes", kMaxQmpLine));
  }
  return absl::OkStatus();
}

std::optional<std::string> LineSplitter::Next() {
  const std::size_t end = buffer_.find('\n', searched_);
  if (end == std::string::npos) {
    searched_ = buffer_.size();
    return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  searched_ = 0;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

}  // namespace sealift::qemu
