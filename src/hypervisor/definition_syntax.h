// The syntax of single values in a VM definition. Pure functions; an error is INVALID_ARGUMENT with
// a text that quotes the value and says what it should look like.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::hypervisor {

// ParseSize reads "512MiB", "2GiB" or "1TiB": a positive whole number and a binary unit.
[[nodiscard]] absl::StatusOr<std::uint64_t> ParseSize(std::string_view text);

// ParseUuid reads "8-4-4-4-12" hexadecimal digits and returns them in lower case; ParseMac likewise
// six pairs with colons, which must not be a multicast address.
[[nodiscard]] absl::StatusOr<std::string> ParseUuid(std::string_view text);
[[nodiscard]] absl::StatusOr<std::string> ParseMac(std::string_view text);

[[nodiscard]] absl::Status CheckName(std::string_view text);
// CheckPath wants an absolute path without control characters.
[[nodiscard]] absl::Status CheckPath(std::string_view text);
// CheckMachine wants a versioned type of the pc-q35 or pc-i440fx family: only those mean the same
// on every host.
[[nodiscard]] absl::Status CheckMachine(std::string_view text);
[[nodiscard]] absl::Status CheckCpuModel(std::string_view text);
// CheckBridge wants a name that Linux takes for a network device.
[[nodiscard]] absl::Status CheckBridge(std::string_view text);
// CheckForward wants a rule of QEMU's hostfwd: "tcp:127.0.0.1:2222-:22", "udp::5353-:53".
[[nodiscard]] absl::Status CheckForward(std::string_view text);

// CheckAppend wants a kernel command line: printable, at most as long as Linux reads on x86.
[[nodiscard]] absl::Status CheckAppend(std::string_view text);

// NearestName is the candidate that `text` was probably meant to be; empty when none is close.
[[nodiscard]] std::string_view NearestName(std::string_view text,
                                           std::span<const std::string_view> candidates);

}  // namespace sealift::hypervisor
