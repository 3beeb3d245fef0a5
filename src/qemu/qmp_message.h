// The QEMU Machine Protocol (docs/interop/qmp-spec.txt of QEMU): lines of JSON, turned into values.
// Pure; QEMU is not trusted to keep to the protocol, because a guest may have taken it over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::qemu {

// Chosen by us: the longest honest reply (query-cpu-definitions) is under 64 KiB and 6 levels deep.
inline constexpr std::size_t kMaxQmpLine = 4U << 20;
inline constexpr int kMaxQmpDepth = 64;

struct QmpGreeting {
  std::string version;  // "7.2.22"
};
struct QmpReturn {
  std::uint64_t id = 0;
  nlohmann::json value;
};
struct QmpError {
  std::optional<std::uint64_t> id;  // missing when QEMU could not read the request
  std::string error_class;          // "GenericError", "CommandNotFound", …
  std::string description;
};
struct QmpEvent {
  std::string name;  // "MIGRATION", "SHUTDOWN", …
  nlohmann::json data;
};
using QmpMessage = std::variant<QmpGreeting, QmpReturn, QmpError, QmpEvent>;

// TextAt is the text of a member, empty where there is none: no object, no such member, no text.
[[nodiscard]] std::string TextAt(const nlohmann::json& object, const char* key);

// ParseQmpMessage reads one line without its end. INVALID_ARGUMENT for anything that is none of the
// four messages.
[[nodiscard]] absl::StatusOr<QmpMessage> ParseQmpMessage(std::string_view line);

// FormatQmpRequest writes one request with its line end.
[[nodiscard]] std::string FormatQmpRequest(std::string_view command,
                                           const nlohmann::json& arguments, std::uint64_t id);

// StatusOfQmpError says which command QEMU refused and why: UNIMPLEMENTED for a command it does not
// know, else FAILED_PRECONDITION.
[[nodiscard]] absl::Status StatusOfQmpError(std::string_view command, const QmpError& error);

// LineSplitter cuts a byte stream into lines. Not thread-safe.
class LineSplitter {
 public:
  // Append takes bytes as they came; RESOURCE_EXHAUSTED when a line grows beyond kMaxQmpLine.
  [[nodiscard]] absl::Status Append(std::string_view bytes);
  // Next returns the next whole line without its end, or nothing.
  [[nodiscard]] std::optional<std::string> Next();

 private:
  std::string buffer_;
  std::size_t searched_ = 0;  // there is no line end before this position
};

}  // namespace sealift::qemu
