// API messages as JSON for scripts. The rules, the same for every message:
//   - names are those of the .proto files; every field is there, also when it is zero or empty;
//   - an enum is its last words in lower case: VM_STATE_RUNNING is "running";
//   - numbers are numbers, also 64-bit ones;
//   - a signed number of milliseconds since 1970 is an RFC 3339 text under the name without "_ms",
//   or null when zero:
//     started_ms becomes "started": "2026-01-31T12:34:56.789Z". Spans are unsigned in the API and
//     stay numbers;
//   - a message that is not set is null;
//   - a map is an object.
#pragma once

#include <google/protobuf/generated_enum_reflection.h>
#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>
#include <string>

namespace sealift::cli {

// Json keeps fields in the order of the .proto files.
using Json = nlohmann::ordered_json;

// ToJson converts one message.
[[nodiscard]] Json ToJson(const google::protobuf::Message& message);

// ToJsonList converts a repeated field of messages.
template <typename Messages>
[[nodiscard]] Json ToJsonList(const Messages& messages) {
  Json list = Json::array();
  for (const auto& message : messages) list.push_back(ToJson(message));
  return list;
}

// EnumWord is the short name of an enum value; a number this program does not know yet is written
// as digits.
[[nodiscard]] std::string EnumWord(const google::protobuf::EnumDescriptor& type, int value);

template <typename Enum>
[[nodiscard]] std::string Word(Enum value) {
  return EnumWord(*google::protobuf::GetEnumDescriptor<Enum>(), static_cast<int>(value));
}

}  // namespace sealift::cli
