#include "hypervisor/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>

#include "base/utf8.h"

namespace sealift::hypervisor {
namespace {

// Ignores what a parser finds.
class Nowhere final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/,
                       YAML::anchor_t /*anchor*/, YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}
};

}  // namespace

// YAML::LoadAll() would tell how many documents there are, but goes round for ever on some
// malformed input (yaml-cpp 0.7 takes a stray ',' for one document after the other), and
// YAML::Load() ignores what follows the first one.
absl::StatusOr<YAML::Node> LoadYaml(const std::string& text) {
  std::istringstream input(text);
  YAML::Parser parser(input);
  Nowhere nowhere;
  if (!parser.HandleNextDocument(nowhere)) {
    return absl::InvalidArgumentError("line 1: the VM definition is empty");
  }
  if (parser.HandleNextDocument(nowhere)) {
    return absl::InvalidArgumentError("there is text after the end of the YAML document");
  }
  return YAML::Load(text);
}

int LineOf(const YAML::Node& node) { return node.Mark().line + 1; }

absl::Status Fail(const Value& value, std::string_view text) {
  return absl::InvalidArgumentError(
      value.path.empty() ? fmt::format("line {}: {}", value.line, text)
                         : fmt::format("line {}: {}: {}", value.line, value.path, text));
}

absl::Status FailWith(const Value& value, const absl::Status& status) {
  return status.ok() ? status : Fail(value, base::MessageOf(status));
}

absl::StatusOr<std::string> Scalar(const Value& value) {
  if (value.node.IsNull()) return Fail(value, "has no value");
  if (!value.node.IsScalar()) return Fail(value, "must be a single value");
  if (value.node.Scalar().find('\0') != std::string::npos) return Fail(value, "contains a NUL");
  // yaml-cpp makes bytes that are no characters of the escapes \N and \_.
  if (!base::IsUtf8(value.node.Scalar())) return Fail(value, "is not UTF-8 text");
  return value.node.Scalar();
}

absl::Status ReadText(const Value& value, absl::Status (*check)(std::string_view),
                      std::string& out) {
  SEALIFT_ASSIGN_OR_RETURN(out, Scalar(value));
  return FailWith(value, check(out));
}

absl::Status ReadBool(const Value& value, bool& out) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, Scalar(value));
  if (text != "true" && text != "false") {
    return Fail(value, fmt::format("'{}' is neither true nor false", text));
  }
  out = text == "true";
  return absl::OkStatus();
}

}  // namespace sealift::hypervisor
