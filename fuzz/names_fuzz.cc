// Short texts that arrive from elsewhere: names, identities, labels, selectors, addresses, ids,
// times. Each is refused as INVALID_ARGUMENT or means exactly what it says.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/label.h"
#include "base/socket.h"
#include "base/status.h"
#include "base/utf8.h"
#include "cli/time_argument.h"
#include "pki/identity.h"
#include "policy/rights.h"
#include "policy/selector.h"

namespace {

using namespace sealift;

void ReadIdentity(const std::string& text) {
  const absl::StatusOr<pki::Identity> identity = pki::ParseIdentity(text);
  if (!identity.ok()) {
    SEALIFT_CHECK(absl::IsInvalidArgument(identity.status()));
    SEALIFT_CHECK(base::IsUtf8(base::MessageOf(identity.status())));
    return;
  }
  SEALIFT_CHECK(identity->ToUri() == text);
  SEALIFT_CHECK(pki::CheckName("trust domain", identity->trust_domain).ok());
  SEALIFT_CHECK(identity->name.empty() == (identity->role == pki::Role::kController));
}

// A name is what an identity may hold, and nothing else is.
void ReadName(const std::string& text) {
  const bool allowed = pki::CheckName("host", text).ok();
  const auto identity = pki::ParseIdentity("spiffe://domain/host/" + text);
  SEALIFT_CHECK(allowed == identity.ok());
  SEALIFT_CHECK(!allowed || identity->name == text);
}

void ReadLabel(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) return;
  const std::string key = text.substr(0, equals);
  const std::string value = text.substr(equals + 1);
  if (!base::CheckLabel(key, value).ok()) return;
  // What a VM may have can be asked for.
  const absl::StatusOr<policy::Selector> selector = policy::Selector::Parse(text);
  SEALIFT_CHECK(selector.ok());
  SEALIFT_CHECK(selector->Matches({{key, value}}));
  SEALIFT_CHECK(!selector->Matches({}));
}

void ReadSelector(const std::string& text) {
  const absl::StatusOr<policy::Selector> selector = policy::Selector::Parse(text);
  if (!selector.ok()) return SEALIFT_CHECK(absl::IsInvalidArgument(selector.status()));
  (void)selector->Matches({{"env", "prod"}});
}

void ReadAddress(const std::string& text) {
  const absl::StatusOr<base::HostPort> address = base::ParseHostPort(text, 7432);
  if (!address.ok()) return SEALIFT_CHECK(absl::IsInvalidArgument(address.status()));
  SEALIFT_CHECK(!address->host.empty() && address->port != 0);
  const absl::StatusOr<base::HostPort> again = base::ParseHostPort(address->ToString(), 1);
  SEALIFT_CHECK(again.ok() && again->host == address->host && again->port == address->port);
}

void ReadId(const std::string& text) {
  const absl::StatusOr<base::Bytes> bytes = base::FromHex(text);
  if (bytes.ok()) SEALIFT_CHECK(base::ToHex(*bytes).size() == text.size());
}

void ReadTime(const std::string& text) {
  const auto now = base::FromUnixMillis(1'800'000'000'000);
  const absl::StatusOr<std::int64_t> time = cli::ParseTime(text, now);
  if (!time.ok()) return SEALIFT_CHECK(absl::IsInvalidArgument(time.status()));
  const std::string written = base::FormatUtc(base::FromUnixMillis(*time));
  constexpr std::int64_t kReach = 9'000'000'000'000;  // of a WallTime
  if (*time % 1000 != 0 || *time < 0 || *time > kReach) return;
  SEALIFT_CHECK(cli::ParseTime(written, now).value() == *time);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const auto read :
       {ReadIdentity, ReadName, ReadLabel, ReadSelector, ReadAddress, ReadId, ReadTime}) {
    read(text);
  }
  if (const auto rights = policy::ParseRights(text); rights.ok()) {
    SEALIFT_CHECK(policy::ParseRights(policy::FormatRights(*rights)).value() == *rights);
  }
  SEALIFT_CHECK(base::IsUtf8(base::MakeLine(text, 100)));
  return 0;
}
