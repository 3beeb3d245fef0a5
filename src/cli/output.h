// Where a verb's results and messages go: data to stdout, messages to stderr.
#pragma once

#include <ostream>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "cli/message_json.h"
#include "cli/table.h"

namespace sealift::cli {

enum class OutputFormat { kTable, kJson, kYaml, kCsv };

// ToYaml writes the same data as YAML 1.1; strings that could be taken for something else are
// quoted.
[[nodiscard]] std::string ToYaml(const Json& data);

// ToCsv writes the same data as RFC 4180: one line per item of a list, below a line with the names
// of the fields. A field of a field is named "progress.phase", a list stands in one cell as JSON. A
// text that a spreadsheet would take for a formula gets a leading apostrophe.
[[nodiscard]] std::string ToCsv(const Json& data);

// Output of one command. The streams must outlive it.
class Output {
 public:
  Output(OutputFormat format, std::ostream& out, std::ostream& err, Colour colour);

  // Print writes a result in the format that was asked for.
  void Print(const Json& data, const Table& table);
  // PrintData writes it only when the format is not a table: for verbs whose table form is a
  // message.
  void PrintData(const Json& data);
  // PrintItem writes one of an endless row of results: a JSON object on a line of its own, a YAML
  // document, a line of CSV without names, or `row`.
  void PrintItem(const Json& data, std::string_view row);
  // PrintText writes text to stdout as it is.
  void PrintText(std::string_view text);

  // Note is a message about what happened, Warn one to be noticed.
  void Note(std::string_view message);
  void Warn(std::string_view message);
  void Error(std::string_view message);

  // Flush reports results that could not be written, such as to a full disk.
  [[nodiscard]] absl::Status Flush();

  [[nodiscard]] OutputFormat format() const { return format_; }
  [[nodiscard]] std::ostream& messages() { return err_; }

 private:
  OutputFormat format_;
  std::ostream& out_;
  std::ostream& err_;
  Colour colour_;
};

}  // namespace sealift::cli
