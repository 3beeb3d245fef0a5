#include "keys/migration_spec.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/check.h"
#include "base/status.h"
#include "keys/c_interop.h"

namespace sealift::keys {
namespace {

constexpr std::string_view kSpecLabel = "sealift/1 spec";

absl::Status ValidateText(std::string_view field, const std::string& text) {
  if (!text.empty() && text.size() <= kMaxSpecText) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "migration spec: {} has {} bytes, allowed are 1 to {}", field, text.size(), kMaxSpecText));
}

void AppendText(base::Bytes& to, const std::string& text) {
  SEALIFT_CHECK(text.size() <= kMaxSpecText);
  base::AppendBig(to, static_cast<std::uint16_t>(text.size()));
  base::Append(to, base::AsBytes(text));
}

}  // namespace

absl::Status ValidateSpec(const MigrationSpec& spec) {
  SEALIFT_RETURN_IF_ERROR(ValidateText("vm", spec.vm));
  SEALIFT_RETURN_IF_ERROR(ValidateText("source", spec.source));
  SEALIFT_RETURN_IF_ERROR(ValidateText("destination", spec.destination));
  if (spec.source == spec.destination) {
    return absl::InvalidArgumentError("migration spec: source and destination are the same host");
  }
  if (spec.protection != Protection::kSealed && spec.protection != Protection::kPlain) {
    return absl::InvalidArgumentError("migration spec: unknown protection");
  }
  if (spec.engine != Engine::kStream && spec.engine != Engine::kDirect) {
    return absl::InvalidArgumentError("migration spec: unknown engine");
  }
  if (spec.streams == 0) return absl::InvalidArgumentError("migration spec: no data stream");
  if (spec.engine == Engine::kDirect && spec.streams < 2) {
    return absl::InvalidArgumentError("migration spec: no stream is left for pages");
  }
  return absl::OkStatus();
}

base::Bytes CanonicalEncoding(const MigrationSpec& spec) {
  base::Bytes encoding;
  base::Append(encoding, base::AsBytes(kSpecLabel));
  base::Append(encoding, spec.id);
  AppendText(encoding, spec.vm);
  AppendText(encoding, spec.source);
  AppendText(encoding, spec.destination);
  base::AppendBig(encoding, static_cast<std::uint8_t>(spec.protection));
  base::AppendBig(encoding, static_cast<std::uint8_t>(spec.engine));
  base::AppendBig(encoding, spec.streams);
  base::AppendBig(encoding, kMaxPayload);
  base::AppendBig(encoding, kRekeyShift);
  return encoding;
}

SpecHash HashSpec(const MigrationSpec& spec) {
  const base::Bytes encoding = CanonicalEncoding(spec);
  SpecHash hash;
  SEALIFT_CHECK(::EVP_Digest(encoding.data(), encoding.size(), MutableOctets(hash), nullptr,
                             ::EVP_sha512(), nullptr) == 1);
  return hash;
}

}  // namespace sealift::keys
