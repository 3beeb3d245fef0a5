// What a mover is handed as its sealed migration key, and what a host offers as its mover's public
// key. Nothing opens but what was sealed to the mover, and bytes that are no point of the curve are
// refused.
//
// The input: one byte that says what the rest is: a sealed key (0), the difference to one that is
// sealed rightly, byte by byte by XOR (1), or a public key (2).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/check.h"
#include "keys/hpke.h"

namespace {

using namespace sealift;

constexpr std::byte kInfo[] = {std::byte{1}};

const keys::SecretBytes& Secret() {
  static const keys::SecretBytes secret = [] {
    auto made = keys::SecretBytes::Allocate(40).value();
    std::ranges::fill(made.bytes(), std::byte{0x5a});
    return made;
  }();
  return secret;
}

void OpenAny(base::ByteSpan sealed) {
  const auto receiver = keys::HpkeReceiver::Generate().value();
  SEALIFT_CHECK(absl::IsPermissionDenied(receiver->Open(sealed, kInfo).status()));
}

void OpenChanged(base::ByteSpan change) {
  const auto receiver = keys::HpkeReceiver::Generate().value();
  const base::Bytes good = keys::HpkeSeal(receiver->PublicKey(), kInfo, Secret()).value();
  base::Bytes changed = good;
  for (std::size_t i = 0; i < std::min(changed.size(), change.size()); ++i) changed[i] ^= change[i];
  const auto opened = receiver->Open(changed, kInfo);
  SEALIFT_CHECK(opened.ok() == (changed == good));
  if (opened.ok())
    SEALIFT_CHECK(std::ranges::equal(opened->bytes(), Secret().bytes()));
  else
    SEALIFT_CHECK(absl::IsPermissionDenied(opened.status()));
}

void SealTo(base::ByteSpan public_key) {
  const auto sealed = keys::HpkeSeal(public_key, kInfo, Secret());
  if (!sealed.ok()) return SEALIFT_CHECK(absl::IsInvalidArgument(sealed.status()));
  SEALIFT_CHECK(public_key.size() == keys::kHpkePublicKeySize);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const base::ByteSpan input = std::as_bytes(std::span(data + 1, size - 1));
  if (data[0] == 0) OpenAny(input);
  if (data[0] == 1) OpenChanged(input);
  if (data[0] == 2) SealTo(input);
  return 0;
}
