#include "cli/output.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <utility>
#include <vector>

#include "cli/format.h"

namespace sealift::cli {
namespace {

// PlainYaml says whether a string can stand without quotes and still be read as a string.
bool PlainYaml(const std::string& text) {
  static constexpr std::array<std::string_view, 9> kWords = {"true", "false", "yes", "no", "on",
                                                             "off",  "null",  "y",   "n"};
  if (text.empty() || std::isalpha(static_cast<unsigned char>(text[0])) == 0) return false;
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' || c == '/';
  };
  if (!std::all_of(text.begin(), text.end(), allowed)) return false;
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kWords.begin(), kWords.end(), lower) == kWords.end();
}

// BlockYaml says whether a string reads back unchanged from a literal block.
bool BlockYaml(const std::string& text) {
  if (text.size() < 2 || text.back() != '\n' || text[text.size() - 2] == '\n') return false;
  const auto unprintable = [](unsigned char c) { return (c < 0x20 && c != '\n') || c == 0x7F; };
  return text[0] != ' ' && text[0] != '\n' && std::none_of(text.begin(), text.end(), unprintable);
}

void EmitString(YAML::Emitter& yaml, const std::string& text) {
  if (BlockYaml(text)) {
    yaml << YAML::Literal << text.substr(0, text.size() - 1);
  } else if (PlainYaml(text)) {
    yaml << text;
  } else {
    yaml << YAML::DoubleQuoted << text;
  }
}

void Emit(YAML::Emitter& yaml, const Json& data) {
  if (data.is_object()) {
    yaml << YAML::BeginMap;
    for (const auto& [key, value] : data.items()) {
      yaml << YAML::Key << key << YAML::Value;
      Emit(yaml, value);
    }
    yaml << YAML::EndMap;
  } else if (data.is_array()) {
    if (data.empty()) yaml << YAML::Flow;
    yaml << YAML::BeginSeq;
    for (const Json& item : data) Emit(yaml, item);
    yaml << YAML::EndSeq;
  } else if (data.is_string()) {
    EmitString(yaml, data.get_ref<const std::string&>());
  } else if (data.is_null()) {
    yaml << YAML::Null;
  } else {
    yaml << data.dump();  // a number or a bool is the same in both
  }
}

// Cells of one item, by the names of its fields, in order.
using Cells = std::vector<std::pair<std::string, std::string>>;

std::string DumpJson(const Json& data, int indent);

// Defused is a text that no spreadsheet takes for a formula.
std::string Defused(std::string text) {
  const bool formula =
      !text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos;
  return formula ? "'" + text : text;
}

void Flatten(const Json& data, const std::string& name, Cells& cells) {
  if (data.is_object()) {
    for (const auto& [key, value] : data.items()) {
      Flatten(value, name.empty() ? key : fmt::format("{}.{}", name, key), cells);
    }
  } else if (data.is_string()) {
    cells.emplace_back(name, Defused(data.get<std::string>()));
  } else {
    cells.emplace_back(name, data.is_null() ? "" : DumpJson(data, -1));
  }
}

std::string CsvCell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

std::string CsvLine(const std::vector<std::string>& texts) {
  std::string line;
  for (const std::string& text : texts) {
    line += (&text == texts.data() ? "" : ",") + CsvCell(text);
  }
  return line + "\r\n";
}

Cells CellsOf(const Json& item) {
  Cells cells;
  Flatten(item, "", cells);
  return cells;
}

std::string CsvValues(const Json& item) {
  std::vector<std::string> values;
  for (auto& [name, value] : CellsOf(item)) values.push_back(std::move(value));
  return CsvLine(values);
}

std::string DumpJson(const Json& data, int indent) {
  return data.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string ToYaml(const Json& data) {
  YAML::Emitter yaml;
  yaml << YAML::LowerNull;  // not a tilde
  Emit(yaml, data);
  return fmt::format("{}\n", yaml.c_str());
}

std::string ToCsv(const Json& data) {
  const Json list = data.is_array() ? data : Json::array({data});
  std::vector<std::string> names;
  std::map<std::string, std::size_t> column;
  for (const Json& item : list) {
    for (const auto& [name, value] : CellsOf(item)) {
      if (column.emplace(name, names.size()).second) names.push_back(name);
    }
  }
  if (names.empty()) return "";
  std::string text = CsvLine(names);
  for (const Json& item : list) {
    std::vector<std::string> values(names.size());
    for (auto& [name, value] : CellsOf(item)) values[column[name]] = std::move(value);
    text += CsvLine(values);
  }
  return text;
}

Output::Output(OutputFormat format, std::ostream& out, std::ostream& err, Colour colour)
    : format_(format), out_(out), err_(err), colour_(colour) {}

void Output::Print(const Json& data, const Table& table) {
  if (format_ == OutputFormat::kTable) {
    table.Print(out_, colour_);
  } else {
    PrintData(data);
  }
}

void Output::PrintData(const Json& data) {
  if (format_ == OutputFormat::kJson) out_ << DumpJson(data, 2) << '\n';
  if (format_ == OutputFormat::kYaml) out_ << ToYaml(data);
  if (format_ == OutputFormat::kCsv) out_ << ToCsv(data);
}

void Output::PrintItem(const Json& data, std::string_view row) {
  switch (format_) {
    case OutputFormat::kJson:
      out_ << DumpJson(data, -1) << '\n';
      break;
    case OutputFormat::kYaml:
      out_ << "---\n" << ToYaml(data);
      break;
    case OutputFormat::kCsv:
      out_ << CsvValues(data);
      break;
    case OutputFormat::kTable:
      out_ << Printable(row) << '\n';
      break;
  }
  out_.flush();
}

void Output::PrintText(std::string_view text) { out_ << text; }

void Output::Note(std::string_view message) { err_ << Printable(message) << std::endl; }

void Output::Warn(std::string_view message) { Note(fmt::format("sealift: warning: {}", message)); }

void Output::Error(std::string_view message) { Note(fmt::format("sealift: {}", message)); }

absl::Status Output::Flush() {
  if (out_.flush()) return absl::OkStatus();
  return absl::UnknownError("the result could not be written to stdout");
}

}  // namespace sealift::cli
