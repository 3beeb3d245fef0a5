#include "controller/agent_report.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace sealift::controller {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string CurbString(const FieldDescriptor& field, const std::string& value) {
  if (field.type() == FieldDescriptor::TYPE_STRING) return base::MakeLine(value, kMaxReportText);
  return value.size() <= kMaxReportText ? value : "";
}

void CurbFields(Message& message);

void CurbList(Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  while (reflection.FieldSize(message, &field) > kMaxReportItems) {
    reflection.RemoveLast(&message, &field);
  }
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      CurbFields(*reflection.MutableRepeatedMessage(&message, &field, i));
    } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      reflection.SetRepeatedString(
          &message, &field, i, CurbString(field, reflection.GetRepeatedString(message, &field, i)));
    }
  }
}

void CurbValue(Message& message, const FieldDescriptor& field) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return CurbFields(*reflection.MutableMessage(&message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.SetString(&message, &field,
                                  CurbString(field, reflection.GetString(message, &field)));
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.SetUInt64(
          &message, &field, std::min(reflection.GetUInt64(message, &field), kMaxReportNumber));
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.SetInt64(
          &message, &field,
          std::clamp<std::int64_t>(reflection.GetInt64(message, &field), 0, kMaxReportTime));
    case FieldDescriptor::CPPTYPE_ENUM:
      if (field.enum_type()->FindValueByNumber(reflection.GetEnumValue(message, &field))) return;
      return reflection.SetEnumValue(&message, &field, 0);
    default:
      return;
  }
}

// Fields that a later version adds are curbed as well.
void CurbFields(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  reflection.MutableUnknownFields(&message)->Clear();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    field->is_repeated() ? CurbList(message, *field) : CurbValue(message, *field);
  }
}

}  // namespace

void Curb(v1::AgentStatus& status) { CurbFields(status); }
void Curb(v1::AgentMigration& migration) { CurbFields(migration); }
void Curb(v1::PrepareDestinationResponse& response) { CurbFields(response); }

// The definition has lines, and its limits are checked where it is parsed.
void Curb(v1::AgentVmRecord& record) {
  std::string definition = std::move(*record.mutable_definition_yaml());
  record.clear_definition_yaml();
  CurbFields(record);
  record.set_definition_yaml(std::move(definition));
}

}  // namespace sealift::controller
