#include "keys/key_schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <utility>

#include "base/status.h"
#include "keys/hkdf.h"

namespace sealift::keys {
namespace {

constexpr std::string_view kLabel = "sealift/1";

base::Bytes SubKeyInfo(const SpecHash& spec_hash, const SubKeyId& id) {
  base::Bytes info;
  base::Append(info, base::AsBytes(kLabel));
  base::Append(info, spec_hash);
  base::AppendBig(info, static_cast<std::uint8_t>(id.purpose));
  base::AppendBig(info, static_cast<std::uint8_t>(id.direction));
  base::AppendBig(info, id.stream);
  base::AppendBig(info, id.index);
  return info;
}

}  // namespace

// The ids that were given to a sealer.
struct KeySchedule::SealingLedger {
  std::mutex mutex;
  std::set<SubKeyId> given;  // guarded by mutex
};

absl::StatusOr<MigrationKey> MigrationKey::Generate(RandomSource& random) {
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes bytes,
                           SecretBytes::Allocate(kMigrationKeySize + kMigrationNonceSize));
  SEALIFT_RETURN_IF_ERROR(random.Fill(bytes.bytes()));
  return MigrationKey{std::move(bytes)};
}

absl::StatusOr<KeySchedule> KeySchedule::Create(MigrationKey key, const SpecHash& spec_hash) {
  const base::ByteSpan bytes = std::as_const(key.bytes).bytes();
  if (bytes.size() != kMigrationKeySize + kMigrationNonceSize) {
    return absl::InvalidArgumentError(fmt::format("a migration key has {} bytes, not {}",
                                                  kMigrationKeySize + kMigrationNonceSize,
                                                  bytes.size()));
  }
  SEALIFT_ASSIGN_OR_RETURN(
      SecretBytes pseudo_random_key,
      HkdfExtract(bytes.subspan(kMigrationKeySize), {bytes.first(kMigrationKeySize)}));
  return KeySchedule(std::move(pseudo_random_key), spec_hash);
}

KeySchedule::KeySchedule(SecretBytes pseudo_random_key, const SpecHash& spec_hash)
    : pseudo_random_key_(std::move(pseudo_random_key)),
      spec_hash_(spec_hash),
      ledger_(std::make_unique<SealingLedger>()) {}

KeySchedule::KeySchedule(KeySchedule&&) noexcept = default;
KeySchedule& KeySchedule::operator=(KeySchedule&&) noexcept = default;
KeySchedule::~KeySchedule() = default;

absl::StatusOr<SecretBytes> KeySchedule::Derive(const SubKeyId& id, std::size_t size) const {
  return HkdfExpand(pseudo_random_key_, SubKeyInfo(spec_hash_, id), size);
}

absl::StatusOr<SecretBytes> KeySchedule::DeriveForSealing(const SubKeyId& id,
                                                          std::size_t size) const {
  {
    const std::lock_guard lock(ledger_->mutex);
    if (!ledger_->given.insert(id).second) {
      return absl::AlreadyExistsError(
          fmt::format("the sealing key of stream {} (index {}) was already given to a sealer",
                      id.stream, id.index));
    }
  }
  return Derive(id, size);
}

std::array<std::byte, kMacSize> Mac(const SecretBytes& key, base::ByteSpan message) {
  std::array<std::byte, kSha512Size> full{};
  HmacSha512(key.bytes(), {message}, full);
  std::array<std::byte, kMacSize> mac{};
  std::copy_n(full.begin(), mac.size(), mac.begin());
  Cleanse(full);
  return mac;
}

}  // namespace sealift::keys
