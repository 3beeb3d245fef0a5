#include "keys/self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/status.h"
#include "keys/hkdf.h"
#include "keys/hpke_suite.h"
#include "keys/migration_spec.h"

namespace sealift::keys {
namespace {

base::Bytes Hex(std::string_view digits) { return base::FromHex(digits).value(); }

absl::StatusOr<SecretBytes> Secret(const base::Bytes& bytes) {
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes secret, SecretBytes::Allocate(bytes.size()));
  std::ranges::copy(bytes, secret.bytes().begin());
  return secret;
}

absl::Status Expect(std::string_view what, base::ByteSpan got, std::string_view expected) {
  if (ConstantTimeEqual(got, Hex(expected))) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("self-test: {} gave a wrong result: the installed OpenSSL, its configuration or "
                  "this machine is damaged, nothing is done with keys",
                  what));
}

absl::Status TestSpecHash() {
  MigrationSpec spec;
  for (std::size_t i = 0; i < spec.id.size(); ++i) spec.id[i] = static_cast<std::byte>(0x10 + i);
  spec.vm = "web-1";
  spec.source = "spiffe://example/host/a";
  spec.destination = "spiffe://example/host/b";
  spec.streams = 4;
  return Expect("SHA-512", HashSpec(spec),
                "df2ffe48dfdadade658a0b63d3cdc7c97dd1fd4f69bd83483fe96176a109701a"
                "0098b71584aa67c0e4623c0f9164365d993f10895055e3ffe125456aa510fc56");
}

absl::Status TestHmac() {
  base::Bytes mac(kSha512Size);
  HmacSha512(base::AsBytes("Jefe"), {base::AsBytes("what do ya want for nothing?")}, mac);
  return Expect("HMAC-SHA512", mac,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
}

absl::Status TestHkdf() {
  const base::Bytes input_key(22, std::byte{0x0b});
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes pseudo_random_key,
                           HkdfExtract(Hex("000102030405060708090a0b0c"), {input_key}));
  SEALIFT_RETURN_IF_ERROR(
      Expect("HKDF-SHA512 extract", pseudo_random_key.bytes(),
             "665799823737ded04a88e47e54a5890bb2c3d247c7a4254a8e61350723590a26"
             "c36238127d8661b88cf80ef802d57e2f7cebcf1e00e083848be19929c61b4237"));
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes derived,
                           HkdfExpand(pseudo_random_key, Hex("f0f1f2f3f4f5f6f7f8f9"), 42));
  return Expect("HKDF-SHA512 expand", derived.bytes(),
                "832390086cda71fb47625bb5ceb168e4c8e26a1a16ed34d9fc7fe92c1481579338da362cb8d9f925d7"
                "cb");
}

// RFC 9180 A.6.1, the receiver's key pair and the first message.
constexpr std::string_view kReceiverPrivate =
    "01462680369ae375e4b3791070a7458ed527842f6a98a79ff5e0d4cbde83c271"
    "96a3916956655523a6a2556a7af62c5cadabe2ef9da3760bb21e005202f7b2462847";
constexpr std::string_view kReceiverPublic =
    "0401b45498c1714e2dce167d3caf162e45e0642afc7ed435df7902ccae0e84ba"
    "0f7d373f646b7738bbbdca11ed91bdeae3cdcba3301f2457be452f271fa68375"
    "80e661012af49583a62e48d44bed350c7118c0d8dc861c238c72a2bda17f6470"
    "4f464b57338e7f40b60959480c0e58e6559b190d81663ed816e523b6b6a418f6"
    "6d2451ec64";
constexpr std::string_view kEncapsulated =
    "040138b385ca16bb0d5fa0c0665fbbd7e69e3ee29f63991d3e9b5fa740aab890"
    "0aaeed46ed73a49055758425a0ce36507c54b29cc5b85a5cee6bae0cf1c21f27"
    "31ece2013dc3fb7c8d21654bb161b463962ca19e8c654ff24c94dd2898de1205"
    "1f1ed0692237fb02b2f8d1dc1c73e9b366b529eb436e98a996ee522aef863dd5"
    "739d2f29b0";
constexpr std::string_view kSharedSecret =
    "776ab421302f6eff7d7cb5cb1adaea0cd50872c71c2d63c30c4f1d5e43653336"
    "fef33b103c67e7a98add2d3b66e2fda95b5b2a667aa9dac7e59cc1d46d30e818";
constexpr std::string_view kInfo = "4f6465206f6e2061204772656369616e2055726e";
constexpr std::string_view kAad = "436f756e742d30";
constexpr std::string_view kPlaintext =
    "4265617574792069732074727574682c20747275746820626561757479";
constexpr std::string_view kCiphertext =
    "170f8beddfe949b75ef9c387e201baf4132fa7374593dfafa90768788b7b2b20"
    "0aafcc6d80ea4c795a7c5b841a";

absl::Status TestHpkeMessage(const HpkeContext& context) {
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes sealed,
                           HpkeSealMessage(context, Hex(kAad), Hex(kPlaintext)));
  SEALIFT_RETURN_IF_ERROR(Expect("HPKE (AES-256-GCM, sealing)", sealed, kCiphertext));
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes opened,
                           HpkeOpenMessage(context, Hex(kAad), Hex(kCiphertext)));
  SEALIFT_RETURN_IF_ERROR(Expect("HPKE (AES-256-GCM, opening)", opened.bytes(), kPlaintext));
  base::Bytes forged = Hex(kCiphertext);
  forged.back() ^= std::byte{1};
  if (!HpkeOpenMessage(context, Hex(kAad), forged).ok()) return absl::OkStatus();
  return absl::InternalError("self-test: HPKE opened a forged message: nothing is done with keys");
}

absl::Status TestHpke() {
  SEALIFT_ASSIGN_OR_RETURN(SecretBytes private_key, Secret(Hex(kReceiverPrivate)));
  const HpkeKeyPair receiver{std::move(private_key), Hex(kReceiverPublic)};
  SEALIFT_ASSIGN_OR_RETURN(const SecretBytes shared, HpkeDecapsulate(receiver, Hex(kEncapsulated)));
  SEALIFT_RETURN_IF_ERROR(Expect("HPKE (P-521, HKDF-SHA512)", shared.bytes(), kSharedSecret));
  SEALIFT_ASSIGN_OR_RETURN(const HpkeContext context, HpkeKeySchedule(shared, Hex(kInfo)));
  return TestHpkeMessage(context);
}

}  // namespace

absl::Status SelfTest() {
  SEALIFT_RETURN_IF_ERROR(TestSpecHash());
  SEALIFT_RETURN_IF_ERROR(TestHmac());
  SEALIFT_RETURN_IF_ERROR(TestHkdf());
  return TestHpke();
}

}  // namespace sealift::keys
