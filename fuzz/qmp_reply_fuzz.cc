// Whatever a QEMU that its guest has taken over may send: arbitrary bytes in arbitrary pieces.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "qemu/migration_json.h"
#include "qemu/qmp_message.h"

namespace {

using namespace sealift;

// Looks at a message as the VM driver does.
void Use(const qemu::QmpMessage& message) {
  if (const auto* reply = std::get_if<qemu::QmpReturn>(&message)) {
    (void)qemu::ParseProgress(reply->value);
    (void)reply->value.dump();
  } else if (const auto* error = std::get_if<qemu::QmpError>(&message)) {
    (void)qemu::StatusOfQmpError("fuzz", *error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  qemu::LineSplitter lines;
  constexpr std::size_t kPiece = 61;
  for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
    if (!lines.Append(bytes.substr(at, kPiece)).ok()) return 0;
    while (const std::optional<std::string> line = lines.Next()) {
      if (const auto message = qemu::ParseQmpMessage(*line); message.ok()) Use(*message);
    }
  }
  return 0;
}
