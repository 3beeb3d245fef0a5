// The migration spec: what both movers must agree on before a byte moves. Public data; the key travels apart.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/bytes.h"

namespace sealift::keys {

// Protection of guest payload on the wire. Everything else is always sealed. Zero is invalid on the wire.
enum class Protection : std::uint8_t { kSealed = 1, kPlain = 2 };

// Engine that moves the guest. Zero is invalid on the wire.
enum class Engine : std::uint8_t { kStream = 1, kDirect = 2 };

using MigrationId = std::array<std::byte, 16>;
using SpecHash = std::array<std::byte, 64>;

// MigrationSpec names one migration. Its canonical encoding (docs/protocol.md, "Spec") is hashed into every
// sub-key, so two sides that were told different things cannot talk.
struct MigrationSpec {
  MigrationId id{};
  std::string vm;           // name of the VM
  std::string source;       // spiffe:// identity of the source host
  std::string destination;  // spiffe:// identity of the destination host
  Protection protection = Protection::kSealed;
  Engine engine = Engine::kStream;
  std::uint16_t streams = 0;  // data streams, numbered 1..streams; stream 0 carries control messages
};

// CanonicalEncoding is the byte string of docs/protocol.md, "Spec".
[[nodiscard]] base::Bytes CanonicalEncoding(const MigrationSpec& spec);

// HashSpec is SHA-512 of the canonical encoding.
[[nodiscard]] SpecHash HashSpec(const MigrationSpec& spec);

}  // namespace sealift::keys
