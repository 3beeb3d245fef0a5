#include "cli/message_json.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "cli/format.h"

namespace sealift::cli {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::string_view kMillisSuffix = "_ms";

bool IsTime(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_INT64 &&
         field.name().ends_with(kMillisSuffix);
}

std::string NameOf(const FieldDescriptor& field) {
  const std::string& name = field.name();
  return IsTime(field) ? name.substr(0, name.size() - kMillisSuffix.size()) : name;
}

Json Int64Value(const FieldDescriptor& field, std::int64_t value) {
  if (!IsTime(field)) return value;
  return value == 0 ? Json() : Json(FormatTime(value));
}

// SingleValue and ItemValue name every type the API uses; a new one is noticed at the first message
// that has it.
Json SingleValue(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return Int64Value(field, reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumWord(*field.enum_type(), reflection.GetEnumValue(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (!reflection.HasField(message, &field)) return {};
      return ToJson(reflection.GetMessage(message, &field));
    default:
      break;
  }
  base::CheckFailed("every type of field is converted to JSON", __FILE__, __LINE__);
}

Json ItemValue(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return ToJson(reflection.GetRepeatedMessage(message, &field, index));
  }
  SEALIFT_CHECK(field.cpp_type() == FieldDescriptor::CPPTYPE_STRING);
  return reflection.GetRepeatedString(message, &field, index);
}

// A map of texts is an object, with its keys in order.
Json MapValue(const Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  const FieldDescriptor& key = *field.message_type()->map_key();
  const FieldDescriptor& value = *field.message_type()->map_value();
  std::map<std::string, Json> sorted;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    sorted[entry.GetReflection()->GetString(entry, &key)] = SingleValue(entry, value);
  }
  Json object = Json::object();
  for (auto& [name, item] : sorted) object[name] = std::move(item);
  return object;
}

Json ListValue(const Message& message, const FieldDescriptor& field) {
  Json list = Json::array();
  const int size = message.GetReflection()->FieldSize(message, &field);
  for (int i = 0; i < size; ++i) list.push_back(ItemValue(message, field, i));
  return list;
}

// UpperSnake turns the name of an enum type into the prefix of its values: "VmState" into
// "VM_STATE_".
std::string UpperSnake(std::string_view camel) {
  std::string snake;
  for (const char c : camel) {
    if (std::isupper(static_cast<unsigned char>(c)) != 0 && !snake.empty()) snake += '_';
    snake += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return snake + '_';
}

}  // namespace

Json ToJson(const Message& message) {
  Json object = Json::object();
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    object[NameOf(field)] = field.is_map()        ? MapValue(message, field)
                            : field.is_repeated() ? ListValue(message, field)
                                                  : SingleValue(message, field);
  }
  return object;
}

std::string EnumWord(const EnumDescriptor& type, int value) {
  const auto* descriptor = type.FindValueByNumber(value);
  if (descriptor == nullptr) return std::to_string(value);
  const std::string prefix = UpperSnake(type.name());
  std::string word = descriptor->name();
  if (word.starts_with(prefix)) word.erase(0, prefix.size());
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return word;
}

}  // namespace sealift::cli
