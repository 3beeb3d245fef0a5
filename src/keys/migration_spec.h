// The migration spec: what both movers must agree on before a byte moves. Public data; the key
// travels apart.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "base/bytes.h"

namespace sealift::keys {

// Limits of the record layer. They are part of every spec's encoding, so that two programs built
// with different ones cannot talk. record/record_format.h says where they come from.
inline constexpr std::uint32_t kMaxPayload = 256 * 1024;
inline constexpr std::uint8_t kRekeyShift = 20;

// Longest name or identity in a spec, in bytes.
inline constexpr std::size_t kMaxSpecText = 1024;

// Protection of guest payload on the wire. Everything else is always sealed. Zero is invalid on the
// wire.
enum class Protection : std::uint8_t { kSealed = 1, kPlain = 2 };

// Engine that moves the guest. Zero is invalid on the wire.
enum class Engine : std::uint8_t { kStream = 1, kDirect = 2 };

using MigrationId = std::array<std::byte, 16>;
using SpecHash = std::array<std::byte, 64>;

// MigrationSpec names one migration. Its canonical encoding (docs/protocol.md, "Spec") is hashed
// into every sub-key, so two sides that were told different things cannot talk.
struct MigrationSpec {
  MigrationId id{};
  std::string vm;           // name of the VM
  std::string source;       // spiffe:// identity of the source host
  std::string destination;  // spiffe:// identity of the destination host
  Protection protection = Protection::kSealed;
  Engine engine = Engine::kStream;
  std::uint16_t streams =
      0;  // data streams, numbered 1..streams; stream 0 carries control messages
};

// ValidateSpec is for a spec that came from elsewhere. INVALID_ARGUMENT names the field: an unknown
// protection or engine, no data stream (two with the direct engine), a text that is empty or longer
// than kMaxSpecText, source and destination equal.
[[nodiscard]] absl::Status ValidateSpec(const MigrationSpec& spec);

// CanonicalEncoding is the byte string of docs/protocol.md, "Spec", of a valid spec.
[[nodiscard]] base::Bytes CanonicalEncoding(const MigrationSpec& spec);

// HashSpec is SHA-512 (FIPS 180-4) of the canonical encoding.
[[nodiscard]] SpecHash HashSpec(const MigrationSpec& spec);

}  // namespace sealift::keys
